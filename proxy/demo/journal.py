"""The journal of the authorization server and the API: the events and tokens that tests assert on.

Times are seconds of the boot clock (`proxy.clock`), which all processes of a machine share, so that events
of several processes can be ordered. Tokens appear as fingerprints only: a journal contains no secrets.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final, Literal, TypeVar

Outcome = Literal[
    "granted",  # new tokens were issued
    "repeated",  # a spent refresh token was presented again within the grace and got its successor
    "refused",  # an error of RFC 6749 section 5.2, and nothing else happened
    "reuse_detected",  # a spent refresh token or code was presented again: its family is revoked
    "nothing_done",  # a fault applied before the server acted
]
Verdict = Literal["good", "missing", "unknown", "expired", "revoked"]
Reason = Literal[
    "reuse",  # of a refresh token outside the grace, or of a code
    "client",  # RFC 7009
    "server",  # by a test or a fault
]


def fingerprint(token: str) -> str:
    """A name for a token that is no secret: SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A request to the token endpoint, recorded before its response is sent.

    A request that a fault still delays is not recorded yet, but its tokens may be (`TokenRecord`).
    """

    arrived_at: float
    acted_at: float | None  # time of the commit; None: the server did not act
    answered_at: float  # just before the response was sent or the connection closed
    grant_type: str
    client_id: str
    refresh_token: str | None = None  # fingerprint of the presented one
    family: int | None = None  # of the presented refresh token, else of the issued tokens; None: unknown
    generation: int | None = None  # of the presented refresh token; None: unknown, or none presented
    subject: str | None = None  # like `family`
    outcome: Outcome
    status: int | None  # None: the connection was dropped
    error: str | None = None  # RFC 6749 section 5.2, as in the response
    issued_access_token: str | None = None  # fingerprints of the issued tokens, even if not received
    issued_refresh_token: str | None = None
    fault: str = ""  # the name of the fault that applied; "" if none or unnamed


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """A request to the API, with the verdict on its token at the time when its header was complete."""

    at: float
    verdict: Verdict  # "good" gets 200, anything else 401
    access_token: str | None  # fingerprint
    family: int | None  # None: unknown
    generation: int | None
    subject: str | None
    method: str
    path: str  # as received, without the query


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """The revocation of a family: of all tokens of one login. Recorded when it is decided.

    A family with a scheduled revocation that is then revoked earlier has two of them: the earlier one counts.
    """

    at: float  # when it takes effect
    family: int
    client_id: str
    subject: str
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """An issued token and its present state.

    A family is all tokens of one login. Its first tokens have generation 1; each granted refresh issues the
    next one.
    """

    fingerprint: str
    kind: Literal["access_token", "refresh_token"]  # names as in RFC 7009 section 2.1
    family: int
    generation: int
    client_id: str
    subject: str
    issued_at: float
    expires_at: float | None = None  # None: never
    revoked_at: float | None = None
    spent_at: float | None = None  # refresh token: when it was exchanged for its successor

    def good_at(self, time: float) -> bool:
        """Whether it was valid at `time`. A spent refresh token is not, even within the grace."""
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
    """Events in the order of recording; with a `limit` only the newest ones."""

    def __init__(self, limit: int | None = None) -> None:
        self._events: deque[Event] = deque(maxlen=limit)
        self.noted = 0

    def note(self, event: Event) -> None:
        self._events.append(event)
        self.noted += 1

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self._events if isinstance(event, kind)]

    def after(self, number: int) -> list[Event]:
        """The events after event `number`, as far as they are kept."""
        forgotten = self.noted - len(self._events)
        skipped = min(max(number - forgotten, 0), len(self._events))
        return list(islice(self._events, skipped, None))


def to_json(event: Event) -> dict[str, Any]:
    """The members of `event`, with its kind as "event"."""
    return {"event": _NAMES[type(event)], **asdict(event)}


def from_json(members: Mapping[str, Any]) -> Event:
    """The inverse of `to_json`; ignores "number". Raises KeyError or TypeError for other input."""
    rest = {name: value for name, value in members.items() if name != "number"}
    return _KINDS[rest.pop("event")](**rest)
