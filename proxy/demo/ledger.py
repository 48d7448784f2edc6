"""The authorization server's memory: logins and their tokens.

A family is all tokens of one login. With rotation a refresh token works once: it is spent when its
successor is saved. If it is presented again within the grace, it gets the same successor, as the response
may have been lost; later, two parties hold the same token, so the family is revoked (RFC 9700 section
4.14.2), access tokens included.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from proxy.clock import Clock
from proxy.demo.clients import Client
from proxy.demo.journal import Journal, Reason, Revocation, TokenRecord, Verdict, fingerprint

CODE_LIFETIME: Final = 60.0  # seconds; RFC 6749 section 4.1.2 recommends at most 600
_SWEPT_PER_TOKEN: Final = 2  # checked for eviction per added token; above 1, so that dead tokens go in time

Kind = Literal["access_token", "refresh_token"]  # names as in RFC 7009 section 2.1
TokenAnswer = dict[str, Any]  # RFC 6749 section 5.1


@dataclass(slots=True, eq=False)
class Family:
    number: int
    client_id: str
    subject: str
    scope: str
    generation: int = 0  # of the newest tokens
    revoked_at: float | None = None  # may be in the future

    def revoked(self, now: float) -> bool:
        return self.revoked_at is not None and self.revoked_at <= now


@dataclass(slots=True, eq=False)
class Issued:
    """A code or token of a login, with the methods that Authlib requires of them."""

    family: Family

    def check_client(self, client: Client) -> bool:
        return self.family.client_id == client.client_id

    def get_scope(self) -> str:
        return self.family.scope


@dataclass(slots=True, eq=False)
class Code(Issued):
    redirect_uri: str | None  # as in the authorization request
    code_challenge: str
    expires_at: float = 0.0
    used: bool = False
    code_challenge_method: str = "S256"

    def get_redirect_uri(self) -> str | None:
        return self.redirect_uri


@dataclass(slots=True, eq=False)
class Token(Issued):
    kind: Kind
    fingerprint: str
    generation: int
    issued_at: float
    expires_at: float = math.inf
    revoked_at: float | None = None  # individually, without its family
    spent_at: float | None = None
    answer: TokenAnswer = field(default_factory=dict, repr=False)  # the response for which it was exchanged

    def verdict(self, now: float) -> Verdict:
        """The verdict on it as an access token."""
        if self.revoked_at is not None or self.family.revoked(now):
            return "revoked"
        return "good" if now < self.expires_at else "expired"

    def record(self) -> TokenRecord:
        revoked = [at for at in (self.revoked_at, self.family.revoked_at) if at is not None]
        return TokenRecord(
            fingerprint=self.fingerprint,
            kind=self.kind,
            family=self.family.number,
            generation=self.generation,
            client_id=self.family.client_id,
            subject=self.family.subject,
            issued_at=self.issued_at,
            expires_at=None if math.isinf(self.expires_at) else self.expires_at,
            revoked_at=min(revoked, default=None),
            spent_at=self.spent_at,
        )


def new_access_token(**_context: Any) -> str:
    return f"access-{secrets.token_urlsafe(32)}"


def new_refresh_token(**_context: Any) -> str:
    return f"refresh-{secrets.token_urlsafe(32)}"


class Ledger:
    """Times are of the boot clock, as this server's tokens end with the process.

    Above `limit` tokens, expired, spent and revoked ones are evicted. An evicted refresh token is unknown:
    its reuse is refused, but revokes nothing.
    """

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        *,
        lifetime: int,
        rotation: bool,
        grace: float,
        limit: int | None = None,
    ) -> None:
        self.lifetime = lifetime
        self.rotation = rotation
        self.grace = grace
        self._revoked = 0
        self._to_be_revoked: list[Family] = []
        self._clock = clock
        self._journal = journal
        self._limit = math.inf if limit is None else limit
        self._numbers = itertools.count(1)
        self._codes: OrderedDict[str, Code] = OrderedDict()
        self._tokens: OrderedDict[str, Token] = OrderedDict()  # by fingerprint

    def new_family(self, client_id: str, subject: str, scope: str) -> Family:
        return Family(next(self._numbers), client_id, subject, scope)

    def add_code(self, value: str, code: Code) -> None:
        code.expires_at = self._clock.boot() + CODE_LIFETIME
        self._codes[value] = code
        if len(self._codes) > self._limit:
            self._codes.popitem(last=False)

    def code(self, value: str) -> Code | None:
        return self._codes.get(value)

    def redeem(self, value: str, client_id: str) -> Code | None:
        """The code, if it is valid. A second use revokes the tokens of the first (RFC 6749 section 4.1.2)."""
        code = self._codes.get(value)
        if code is None or code.family.client_id != client_id:
            return None
        if code.used:
            self.revoke_family(code.family, "reuse")
            return None
        return code if self._clock.boot() < code.expires_at else None

    def present(self, value: str, client_id: str) -> Token | None:
        """The refresh token, if it may be exchanged. Reuse after the grace revokes its family."""
        token = self.find(value)
        if token is None or token.kind != "refresh_token" or token.family.client_id != client_id:
            return None
        now = self._clock.boot()
        if token.family.revoked(now):
            return None
        if token.spent_at is not None and now - token.spent_at >= self.grace:
            self.revoke_family(token.family, "reuse")
            return None
        return token

    def save(self, answer: TokenAnswer, family: Family, exchanged: Token | None = None) -> None:
        """The commit: the new tokens become valid, and the exchanged refresh token is spent."""
        family.generation += 1
        self._add_access(answer["access_token"], family, family.generation)
        if "refresh_token" not in answer:
            return
        self._add(answer["refresh_token"], family, "refresh_token", family.generation)
        if exchanged is not None:
            exchanged.spent_at = self._clock.boot()
            exchanged.answer = answer

    def repeat(self, spent: Token) -> TokenAnswer:
        """The same response again, with a new access token if the old one is valid for less than a second.

        `expires_in` is in whole seconds (RFC 6749 section 5.1), rounded down.
        """
        now = self._clock.boot()
        given = self.find(spent.answer["access_token"])
        left = given.expires_at - now if given and given.verdict(now) == "good" else 0.0
        if left < 1:
            spent.answer["access_token"] = new_access_token()
            generation = given.generation if given else spent.family.generation
            self._add_access(spent.answer["access_token"], spent.family, generation)
            left = self.lifetime
        return {**spent.answer, "expires_in": math.floor(left)}

    def _add_access(self, value: str, family: Family, generation: int) -> Token:
        return self._add(value, family, "access_token", generation, self.lifetime)

    def _add(
        self, value: str, family: Family, kind: Kind, generation: int, lifetime: float = math.inf
    ) -> Token:
        now = self._clock.boot()
        token = Token(family, kind, fingerprint(value), generation, now, now + lifetime)
        self._tokens[token.fingerprint] = token
        for _ in range(_SWEPT_PER_TOKEN):
            if len(self._tokens) > self._limit:
                self._evict_or_keep(next(iter(self._tokens.values())))
        return token

    def _evict_or_keep(self, oldest: Token) -> None:
        if self._dead(oldest):
            del self._tokens[oldest.fingerprint]
        else:
            self._tokens.move_to_end(oldest.fingerprint)

    def _dead(self, token: Token) -> bool:
        now = self._clock.boot()
        is_spent = token.spent_at is not None and now - token.spent_at >= self.grace
        return is_spent or now >= token.expires_at or token.family.revoked(now)

    def find(self, value: str) -> Token | None:
        return self._tokens.get(fingerprint(value))

    def wall(self) -> float:
        return self._clock.wall()

    def subject_of(self, access_token: str) -> str | None:
        """The subject of an access token that is valid now."""
        token = self.find(access_token)
        if token is None or token.kind != "access_token" or token.verdict(self._clock.boot()) != "good":
            return None
        return token.family.subject

    def find_fingerprint(self, of_token: str) -> Token | None:
        return self._tokens.get(of_token)

    def records(self) -> Iterator[TokenRecord]:
        return (token.record() for token in self._tokens.values())

    def revoke(self, token: Token, reason: Reason) -> None:
        """Revoke an access token alone, a refresh token with its family (RFC 7009 section 2.1)."""
        if token.kind == "refresh_token":
            self.revoke_family(token.family, reason)
        elif token.revoked_at is None:
            token.revoked_at = self._clock.boot()

    def revoke_subject(self, subject: str, reason: Reason) -> int:
        """Revoke all logins of a person; the number of those that were not revoked yet."""
        before = self.families_revoked
        for family in {token.family for token in self._tokens.values() if token.family.subject == subject}:
            self.revoke_family(family, reason)
        return self.families_revoked - before

    @property
    def families_revoked(self) -> int:
        now = self._clock.boot()
        return self._revoked + sum(family.revoked(now) for family in self._to_be_revoked)

    def revoke_family(self, family: Family, reason: Reason, *, after: float = 0.0) -> None:
        """Revoke in `after` seconds. Of several revocations the earliest counts."""
        now = self._clock.boot()
        if family.revoked_at is not None and family.revoked_at <= now + after:
            return
        if family in self._to_be_revoked:
            self._to_be_revoked.remove(family)
        family.revoked_at = now + after
        if after:
            self._to_be_revoked.append(family)
        else:
            self._revoked += 1
        self._journal.note(
            Revocation(
                at=family.revoked_at,
                family=family.number,
                client_id=family.client_id,
                subject=family.subject,
                reason=reason,
            )
        )
