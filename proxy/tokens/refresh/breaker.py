"""The circuit breaker of a client at its authorization server: states and transitions. Pure.

    Closed ──the server fails──► Open ──its pause is over──► HalfOpen ──the server responds──► Closed
                                   ▲                            │
                                   └───it fails: a longer pause─┘

Only failures of the server open it: no response, 5xx, 429, a Retry-After. Any other response, an OAuth error
included, proves that the server is up and closes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from proxy.errors import AuthorizationServerError
from proxy.store.base import AccountId
from proxy.tokens.refresh import backoff

WITNESSES: Final = 2  # accounts that must fail: one alone may have a problem of its own


class Candidate(NamedTuple):
    """An account that wants a turn. Of those that have not probed yet, the smallest is the first choice."""

    failures: int  # of this account since its last success
    since: float  # boot clock: when its refresh was due
    key: AccountId

    @property
    def is_troubled(self) -> bool:
        return self.failures > 0


@dataclass(frozen=True, slots=True)
class Closed:
    """The server counts as up. `witnesses` have failed since its last response."""

    witnesses: frozenset[AccountId] = frozenset()


@dataclass(frozen=True, slots=True)
class Pauses:
    """How many probes failed in a row: of all accounts, and of accounts without failures of their own."""

    of_all: int = 1
    of_fresh: int = 1


@dataclass(frozen=True, slots=True)
class Open:
    """The server is down: nothing is sent before `until` (boot clock), then one probe.

    An account without failures of its own may probe from `fresh_until` on, which is earlier: the failures of
    other accounts don't extend its pause. `pressed` may probe at once, as a person wants it to.
    """

    until: float
    fresh_until: float
    pauses: Pauses
    pressed: AccountId | None = None

    def pause_ends(self, candidate: Candidate) -> float:
        if candidate.key == self.pressed:
            return float("-inf")
        return self.until if candidate.is_troubled else self.fresh_until


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """`probe` tests whether the server is up again; all others wait for its result.

    `before`: the pause that it did not wait for, as a person wanted it to probe. It goes on if the probe says
    nothing about the server: else pressing again and again would hold all other accounts back.
    """

    probe: AccountId
    pauses: Pauses
    before: Open | None = None


State: TypeAlias = Closed | Open | HalfOpen


@dataclass(frozen=True, slots=True)
class ServerUp:
    """A response to any request other than 5xx and 429."""


@dataclass(frozen=True, slots=True)
class ServerDown:
    """A request failed with an error of the server."""

    candidate: Candidate  # as at the start of the request
    error: AuthorizationServerError
    at: float  # boot clock
    chance: float = 0.5  # uniform in [0, 1): spreads the pauses


@dataclass(frozen=True, slots=True)
class ProbeStarts:
    key: AccountId


@dataclass(frozen=True, slots=True)
class TurnEnds:
    """A probe that ends without a verdict about the server: another may probe at once."""

    key: AccountId
    at: float  # boot clock


@dataclass(frozen=True, slots=True)
class TryNow:
    """A person may have corrected the cause: this account need not wait for the end of the pause."""

    key: AccountId


Event: TypeAlias = ServerUp | ServerDown | ProbeStarts | TurnEnds | TryNow


def next_state(state: State, event: Event) -> State:
    """The state after an event; the same object where nothing changes. Pure."""
    match state, event:
        case Closed(witnesses), ServerUp():
            return Closed() if witnesses else state
        case _, ServerUp():
            return Closed()
        case Closed(), ServerDown():
            return _after_failure(state, event)
        case Open(), ServerDown():  # the request was sent before it opened
            return _extended(state, event)
        case HalfOpen(probe, _, Open() as before), ServerDown() if (
            probe == event.candidate.key and not _is_witness(event)
        ):
            return _extended(before, event)
        case HalfOpen(probe, pauses), ServerDown() if probe == event.candidate.key:
            of_fresh = pauses.of_fresh + _is_witness(event)
            return _opened(Pauses(pauses.of_all + 1, of_fresh), event)
        case Open(_, _, pauses, pressed), ProbeStarts(key):
            return HalfOpen(key, pauses, replace(state, pressed=None) if key == pressed else None)
        case HalfOpen(probe, pauses, before), TurnEnds(key, at) if probe == key:
            return before or Open(at, at, pauses)
        case Open(), TryNow(key):
            return replace(state, pressed=key)
    return state


def _after_failure(state: Closed, event: ServerDown) -> State:
    if not _is_witness(event):
        return state
    witnesses = state.witnesses | {event.candidate.key}
    is_certain = not event.error.reached or event.error.retry_after is not None
    return _opened(Pauses(), event) if is_certain or len(witnesses) >= WITNESSES else Closed(witnesses)


def _extended(state: Open, event: ServerDown) -> Open:
    """The pause, and at least as long as the server wants."""
    asked_for = event.at + (event.error.retry_after or 0.0)
    return replace(state, until=max(state.until, asked_for), fresh_until=max(state.fresh_until, asked_for))


def _is_witness(event: ServerDown) -> bool:
    """Whether the failure counts against the server: an account that failed before may itself be the cause.

    A request that did not reach the server counts for any account: the connection is the cause.
    """
    return not event.error.reached or not event.candidate.is_troubled


def _opened(pauses: Pauses, event: ServerDown) -> Open:
    asked_for = event.error.retry_after or 0.0
    until = event.at + max(backoff.backoff(pauses.of_all, event.chance), asked_for)
    fresh_until = event.at + max(backoff.backoff(pauses.of_fresh, event.chance), asked_for)
    return Open(until, fresh_until, pauses)
