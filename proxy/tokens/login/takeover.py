"""A login to an account that has another person's tokens: stored, sealed, until somebody decides.

Like a login under way, it lasts TIME_TO_LOG_IN and can be decided once, only in the browser that was asked.
Without a decision it expires in the store, and its tokens are not revoked: no process handles its end.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Final

from proxy.oauth.token import Principal, Token
from proxy.store.base import AccountId, Store
from proxy.tokens.saved import codec

# Seconds for a login, and again for the decision. RFC 9700 recommends a short-lived state; a second factor
# takes some minutes.
TIME_TO_LOG_IN: Final = 600.0
TIME_TO_LOG_IN_SAID: Final = f"{TIME_TO_LOG_IN / 60:.0f} minutes"


@dataclass(frozen=True, slots=True)
class Takeover:
    """The account belongs to `owner` and is unchanged; `token` is another person's."""

    key: AccountId
    owner: Principal = field(repr=False)
    token: Token
    browser: str  # digest of the cookie of the browser that is asked
    state: str  # of the login: a command may wait for its outcome
    ticket: str = field(default_factory=lambda: secrets.token_urlsafe(32))  # the key for `take`


async def stash(store: Store, undecided: Takeover) -> None:
    """Store it until it is taken. Raises StoreError."""
    document = {
        "key": undecided.key,
        "owner": undecided.owner,
        "token": codec.encode(undecided.token).decode(),
        "browser": undecided.browser,
        "state": undecided.state,
    }
    await store.stash(f"undecided:{undecided.ticket}", json.dumps(document).encode(), TIME_TO_LOG_IN)


async def take(store: Store, ticket: str) -> Takeover | None:
    """Remove and return it; None if there is no such ticket. Raises StoreError."""
    kept = await store.take(f"undecided:{ticket}") if ticket else None
    if kept is None:
        return None
    document = json.loads(kept)
    return Takeover(
        AccountId(*document["key"]),
        Principal(*document["owner"]),
        codec.decode(document["token"].encode()),
        document["browser"],
        document["state"],
        ticket,
    )
