"""What the authorization server and the API saw, did and gave: what a test asserts on.

All times are seconds of the boot clock (`proxy.clock`), which all processes of one machine share: what two
of them saw can be put in order. Tokens stand here as fingerprints, so a journal may be shown to anyone.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final, Literal, TypeVar

Outcome = Literal[
    "granted",  # new tokens were made
    "repeated",  # a spent refresh token came again within the grace and got what it was exchanged for
    "refused",  # an error of RFC 6749 section 5.2, and nothing else happened
    "reuse_detected",  # a spent refresh token or code came again: its family has been revoked
    "nothing_done",  # a fault came before the server's work
]
Verdict = Literal["good", "missing", "unknown", "expired", "revoked"]
Reason = Literal[
    "reuse",  # of a refresh token outside the grace, or of a code
    "client",  # RFC 7009
    "server",  # its own decision: a test's, or a fault's
]


def fingerprint(token: str) -> str:
    """What tells tokens apart and is no secret: SHA-256, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A request to the token endpoint, noted just before its answer left: who has the answer finds it here.

    One that is still held up, by a fault, is not here yet; what it may have done already is (`TokenRecord`).
    """

    arrived_at: float
    acted_at: float | None  # when the server did its work, which is its commit; None: it did not
    answered_at: float  # when the answer, or the end of the connection, was about to leave
    grant_type: str
    client_id: str
    refresh_token: str | None = None  # fingerprint of the one presented
    family: int | None = None  # of the refresh token presented, else of the tokens given; None: unknown
    generation: int | None = None  # of the refresh token presented; None: unknown, or none was presented
    subject: str | None = None  # as `family`
    outcome: Outcome
    status: int | None  # None: the connection was dropped
    error: str | None = None  # RFC 6749 section 5.2, as the answer told it
    issued_access_token: str | None = None  # fingerprints of what the server gave, told or not
    issued_refresh_token: str | None = None
    fault: str = ""  # the name of the one that befell it; "" where it has none


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """A request to the API, judged when its head had come, and by the token as it was at that very time."""

    at: float
    verdict: Verdict  # "good" gets 200, all else 401
    access_token: str | None  # fingerprint
    family: int | None  # None: unknown
    generation: int | None
    subject: str | None
    method: str
    path: str  # as it came, without the query


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """The end of a family: of all tokens that came of one login. It is noted when it is decided on.

    A family that was to end later, and then did earlier, has two of them: the earlier one counts.
    """

    at: float  # when it ends
    family: int
    client_id: str
    subject: str
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token that was issued, and what has become of it so far.

    A family is all that came of one login. Its first tokens are of generation 1; each refresh that is
    granted makes the next one.
    """

    fingerprint: str
    kind: Literal["access_token", "refresh_token"]  # as RFC 7009 section 2.1 names them
    family: int
    generation: int
    client_id: str
    subject: str
    issued_at: float
    expires_at: float | None = None  # None: never
    revoked_at: float | None = None
    spent_at: float | None = None  # a refresh token's: when it was exchanged for its successor

    def good_at(self, time: float) -> bool:
        """Whether it was good at `time`. A spent refresh token is not, whatever the grace."""
        ends = (self.expires_at, self.revoked_at, self.spent_at)
        return self.issued_at <= time and all(end is None or time < end for end in ends)


Event = TokenRequest | ApiRequest | Revocation
E = TypeVar("E", TokenRequest, ApiRequest, Revocation)
_NAMES: Final[Mapping[type[Event], str]] = {
    TokenRequest: "token_request",
    ApiRequest: "api_request",
    Revocation: "revocation",
}
_KINDS: Final = {name: kind for kind, name in _NAMES.items()}


class Journal:
    """Events in the order in which they were noted; with a `limit`, only so many of the newest."""

    def __init__(self, limit: int | None = None) -> None:
        self._events: deque[Event] = deque(maxlen=limit)
        self.noted = 0

    def note(self, event: Event) -> None:
        self._events.append(event)
        self.noted += 1

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self._events if isinstance(event, kind)]

    def after(self, number: int) -> list[Event]:
        """All but the first `number` that were ever noted, as far as they are still here."""
        forgotten = self.noted - len(self._events)
        skipped = min(max(number - forgotten, 0), len(self._events))
        return list(islice(self._events, skipped, None))


def to_json(event: Event) -> dict[str, Any]:
    """The members of `event`, and as "event" its kind."""
    return {"event": _NAMES[type(event)], **asdict(event)}


def from_json(members: Mapping[str, Any]) -> Event:
    """The inverse of `to_json`; "number" is set aside. Raises KeyError or TypeError for anything else."""
    rest = {name: value for name, value in members.items() if name != "number"}
    return _KINDS[rest.pop("event")](**rest)
