"""What a person should be told of a token, once: that scopes are missing, that the refresh token ends."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Final

from proxy.config.model import Credential
from proxy.oauth.token import Token
from proxy.store.base import AccountId
from proxy.tokens import lifetime
from proxy.tokens.account import Account

# Scopes that ask for a refresh token: where there is one, they were granted, whatever the answer lists.
_OFFLINE: Final = frozenset({"offline_access", "offline.access", "refresh_token"})
_NOT_A_SCOPE: Final = ".default"  # Microsoft: "all that is configured for this client"
_BETWEEN: Final = re.compile(r"[ ,]+")  # the comma: Slack, GitHub
_INSTEAD: Final = {  # what would help, by grant
    "authorization_code": "log in again before then",
    "refresh_token": "give the configuration a new refresh_token before then",
}

_log = logging.getLogger("proxy.tokens")


def missing_scopes(credential: Credential, token: Token) -> list[str]:
    """The configured scopes that the server has not granted (RFC 6749 section 5.1: none said, all are)."""
    if not token.scope:
        return []
    granted = {_word(scope) for scope in (*token.scope.split(), *_BETWEEN.split(token.scope))}
    needless = {_NOT_A_SCOPE} | (_OFFLINE if token.refresh_token else frozenset())
    return [scope for scope in credential.scopes if _word(scope) not in granted | needless]


def narrowed(key: AccountId, credential: Credential, token: Token, before: Token | None) -> None:
    """Warn of scopes that `token` lacks and `before` did not."""
    missing = missing_scopes(credential, token)
    if missing and (before is None or missing != missing_scopes(credential, before)):
        _log.warning("%s: the server did not grant the scopes %s", key, ", ".join(missing))


def remind(account: Account, now: float) -> None:
    """Warn, once, that a refresh token comes to its end. `now` is in Unix seconds."""
    token, credential = account.held.token, account.credential
    if token is None or account.held.state != "valid":
        return
    near, end = lifetime.near_end_at(token, credential), lifetime.refresh_ends_at(token, credential)
    if near is None or end is None or now < near or abs(end - account.reminded_of) < lifetime.TELLS_APART:
        return
    account.reminded_of = end
    _log.warning(
        "%s: its refresh token %s at %s: %s",
        account.key,
        "ends" if now < end else "has ended",
        datetime.fromtimestamp(end, UTC).isoformat(" ", "minutes"),
        _INSTEAD.get(credential.grant, "it is used no more"),
    )


def _word(scope: str) -> str:
    """As servers shorten and lengthen them: https://graph.microsoft.com/Mail.Read is Mail.Read, and Google
    grants email as …/auth/userinfo.email.
    """
    return scope.rstrip("/").rpartition("/")[2].removeprefix("userinfo.")
