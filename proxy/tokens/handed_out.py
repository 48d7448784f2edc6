"""A token that is given to a program, instead of being attached: its description, and the line in the log."""

from __future__ import annotations

import logging
import math
from typing import Final, TypedDict

from proxy.clock import Clock
from proxy.observe.events import INFO, event
from proxy.tokens.account import Account
from proxy.tokens.attachment import SCHEME, Attachment

_log: Final = logging.getLogger("proxy.tokens")


class TokenDocument(TypedDict):
    """As a token response (RFC 6749 section 5.1), with the time of expiry."""

    access_token: str
    token_type: str
    expires_in: int | None  # seconds from now; None: it has no known end
    expires_at: int | None  # the same, in Unix seconds


def described(account: Account, attachment: Attachment, clock: Clock) -> TokenDocument:
    left = seconds_left(account, attachment, clock)
    return {
        "access_token": attachment.access_token.reveal(),
        "token_type": SCHEME,
        "expires_in": None if left is None else int(left),
        "expires_at": None if left is None else int(clock.wall() + left),
    }


def seconds_left(account: Account, attachment: Attachment, clock: Clock) -> float | None:
    """Until it expires, by the clock that decides about it (lifetime.py); None: no end is known."""
    token = account.held.token
    if token is None or token.lifetime is None or attachment is not account.attachment:
        return None
    age = account.token_age
    return max(0.0, token.lifetime - (age if math.isfinite(age) else clock.wall() - token.issued_at))


def note(account: Account, caller: str) -> None:
    """Log that a token was handed out. `caller`: its name in the configuration, or a command."""
    sentence = f"the access token of {account.key} was handed out to {caller}"
    event(_log, INFO, "token_handed_out", sentence, **account.key._asdict(), caller=caller)
