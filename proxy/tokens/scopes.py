"""Which of the configured scopes a server has granted. Pure."""

from __future__ import annotations

import re
from typing import Final

from proxy.config.model import Credential
from proxy.oauth.token import Token

# Scopes that request a refresh token: if there is one, they were granted, whatever the response lists.
_OFFLINE: Final = frozenset({"offline_access", "offline.access", "refresh_token"})
_NOT_A_SCOPE: Final = ".default"  # Microsoft: "all scopes configured for this client"
_BETWEEN: Final = re.compile(r"[ ,]+")  # the comma: Slack, GitHub


def missing_scopes(credential: Credential, token: Token) -> tuple[str, ...]:
    """The configured scopes that the server has not granted (RFC 6749 section 5.1: none stated means all)."""
    if not token.scope:
        return ()
    granted = {_word(scope) for scope in (*token.scope.split(), *_BETWEEN.split(token.scope))}
    ignored = {_NOT_A_SCOPE} | (_OFFLINE if token.refresh_token else frozenset())
    return tuple(scope for scope in credential.scopes if _word(scope) not in granted | ignored)


def _word(scope: str) -> str:
    """A scope without the prefixes that servers add or remove: https://graph.microsoft.com/Mail.Read is
    Mail.Read, and Google grants email as …/auth/userinfo.email.
    """
    return scope.rstrip("/").rpartition("/")[2].removeprefix("userinfo.")
