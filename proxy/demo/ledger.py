"""What the authorization server remembers, in memory: logins, and the tokens that came of them.

A family is all that came of one login. With rotation a refresh token is used once: it is spent when its
successor is saved. A spent one that comes again within the grace gets the same successor, because the
answer may have been lost; outside it, two parties hold the same token, so the family is revoked
(RFC 9700, section 4.14.2), access tokens included.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from typing import Any

from proxy.clock import Clock
from proxy.demo.clients import Client

CODE_LIFETIME = 60.0  # seconds; RFC 6749 section 4.1.2 asks for at most 600

TokenAnswer = dict[str, Any]  # RFC 6749 section 5.1


@dataclass(slots=True, eq=False)
class Family:
    client_id: str
    subject: str
    scope: str
    revoked: bool = False


@dataclass(slots=True, eq=False)
class Issued:
    """What came of a login. The methods are those that Authlib asks of codes and tokens."""

    family: Family

    def check_client(self, client: Client) -> bool:
        return self.family.client_id == client.client_id

    def get_scope(self) -> str:
        return self.family.scope


@dataclass(slots=True, eq=False)
class Code(Issued):
    redirect_uri: str | None  # as the authorization request gave it
    code_challenge: str
    expires_at: float = 0.0
    used: bool = False
    code_challenge_method: str = "S256"

    def get_redirect_uri(self) -> str | None:
        return self.redirect_uri


@dataclass(slots=True, eq=False)
class AccessToken(Issued):
    expires_at: float
    revoked: bool = False


@dataclass(slots=True, eq=False)
class RefreshToken(Issued):
    spent_at: float | None = None
    answer: TokenAnswer = field(default_factory=dict, repr=False)  # what it was exchanged for


def new_access_token(**_context: Any) -> str:
    return f"access-{secrets.token_urlsafe(32)}"


def new_refresh_token(**_context: Any) -> str:
    return f"refresh-{secrets.token_urlsafe(32)}"


class Ledger:
    """Times are those of the boot clock: this server's tokens end with the process."""

    def __init__(self, clock: Clock, *, lifetime: int, rotation: bool, grace: float) -> None:
        self.rotation = rotation
        self.families_revoked = 0
        self._clock = clock
        self._lifetime = lifetime
        self._grace = grace
        self._codes: dict[str, Code] = {}
        self._access: dict[str, AccessToken] = {}
        self._refresh: dict[str, RefreshToken] = {}

    def add_code(self, value: str, code: Code) -> None:
        code.expires_at = self._clock.boot() + CODE_LIFETIME
        self._codes[value] = code

    def redeem(self, value: str, client_id: str) -> Code | None:
        """The code, if it may be exchanged. A second use revokes what the first gave (RFC 6749 4.1.2)."""
        code = self._codes.get(value)
        if code is None or code.family.client_id != client_id:
            return None
        if code.used:
            self.revoke_family(code.family)
            return None
        return code if self._clock.boot() < code.expires_at else None

    def present(self, value: str, client_id: str) -> RefreshToken | None:
        """The refresh token, if it is to be answered. Reuse outside the grace revokes its family."""
        token = self._refresh.get(value)
        if token is None or token.family.client_id != client_id or token.family.revoked:
            return None
        if token.spent_at is not None and self._clock.boot() - token.spent_at >= self._grace:
            self.revoke_family(token.family)
            return None
        return token

    def save(self, answer: TokenAnswer, family: Family, exchanged: RefreshToken | None = None) -> None:
        """The commit: the new tokens come to life and the one they were exchanged for is spent."""
        self._save_access(answer["access_token"], family)
        if "refresh_token" not in answer:
            return
        self._refresh[answer["refresh_token"]] = RefreshToken(family)
        if exchanged is not None:
            exchanged.spent_at = self._clock.boot()
            exchanged.answer = answer

    def repeat(self, spent: RefreshToken) -> TokenAnswer:
        """The answer once more, with a new access token only if that one is no longer good."""
        if self.active(spent.answer["access_token"]) is None:
            spent.answer["access_token"] = new_access_token()
            self._save_access(spent.answer["access_token"], spent.family)
        left = math.ceil(self.expires_in(spent.answer["access_token"]))
        return {**spent.answer, "expires_in": left}

    def _save_access(self, value: str, family: Family) -> None:
        self._access[value] = AccessToken(family, self._clock.boot() + self._lifetime)

    def active(self, access_token: str) -> str | None:
        """Whose token it is, while it is good."""
        token = self._access.get(access_token)
        if token is None or token.revoked or token.family.revoked:
            return None
        return token.family.subject if self._clock.boot() < token.expires_at else None

    def expires_in(self, access_token: str) -> float:
        """Seconds; negative once it has expired. Raises KeyError for a token that was never issued."""
        return self._access[access_token].expires_at - self._clock.boot()

    def find(self, value: str) -> AccessToken | RefreshToken | None:
        return self._access.get(value) or self._refresh.get(value)

    def revoke(self, token: AccessToken | RefreshToken) -> None:
        """RFC 7009 section 2.1: with a refresh token goes all that came of the same login."""
        if isinstance(token, AccessToken):
            token.revoked = True
            return
        self.revoke_family(token.family)

    def revoke_family(self, family: Family) -> None:
        if not family.revoked:
            family.revoked = True
            self.families_revoked += 1
