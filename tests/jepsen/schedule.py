"""The acts of the nemesis, made from a seed. Pure, so that the seed determines the whole run.

No client survives some combinations of two faults: the only process with a response is killed or stopped,
or a response is lost, and meanwhile the store is emptied, or is down for longer than the grace. So each kind
of run leaves out such combinations; the last kind has all faults, with a grace longer than any of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.jepsen.recording import STEPS

LEASE: Final = 3.0  # seconds, as in DESIGN 2.4
SHORT: Final = (0.1, 0.7)  # seconds of a pause: too short for a request to time out
LONG: Final = (LEASE + 0.2, 3 * LEASE)  # seconds of a pause past the lease
OUTAGE: Final = (0.3, 3.5)  # seconds without the store
PACE: Final = 0.3  # seconds between two acts, on average
TRAP: Final = 2.5  # seconds for which a trap, or a fault of the authorization server, is set
OUTAGES: Final[Mapping[str, Sequence[str]]] = {
    "redis": ("kill", "pause"),
    "postgres": ("fast", "immediate", "pause"),
    "sqlite": (),
}
FLUSH: Final[Mapping[str, Sequence[str]]] = {"redis": ("flush", "flush")}
LOSSY: Final = ("drop-after-commit", "slow-after-commit")
HARMLESS: Final = ("drop-before", "slow", "outage")
PEOPLE: Final = {"login": 2, "logout": 1}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of run: the server's grace in seconds, and the relative frequency of each act."""

    grace: float
    weights: Mapping[str, int]
    faults: Sequence[str] = ()
    flush: bool = False
    lifetime: int = 3  # seconds of an access token: refreshed every two


KINDS: Final = (
    Kind(3.0, {"pause": 5, "trap": 9, "fault": 2, **PEOPLE}, HARMLESS),
    Kind(3.0, {"store": 16, "fault": 4, **PEOPLE}, HARMLESS, flush=True),
    Kind(6.0, {"kill": 3, "trap-kill": 9, "refresh": 20, **PEOPLE}, lifetime=60),  # nothing is due by itself
    Kind(6.0, {"fault": 20, **PEOPLE}, LOSSY),
    Kind(
        30.0,
        {"pause": 3, "trap": 5, "kill": 2, "trap-kill": 4, "store": 3, "fault": 3, **PEOPLE},
        LOSSY + HARMLESS,
        flush=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Act:
    at: float  # seconds since the start
    what: str
    who: str  # a worker
    account: str
    how: str = "-"  # a step, a fault or an act on the store
    seconds: float = SHORT[0]  # that a pause or an outage lasts


def kind_of(seed: int) -> Kind:
    return KINDS[seed % len(KINDS)]


def plan(seed: int, seconds: float, store: str, workers: Sequence[str], accounts: Sequence[str]) -> list[Act]:
    chance, kind = random.Random(f"{seed} {store}"), kind_of(seed)
    free = dict.fromkeys(kind.weights, 0.0)  # the earliest time of the next act of this kind
    acts: list[Act] = []
    at = 0.0
    while (at := at + chance.expovariate(1 / PACE)) < seconds:
        what = chance.choices(list(kind.weights), list(kind.weights.values()))[0]
        how, lasts = _how(what, store, kind, chance), _how_long(what, chance)
        if not how or at < free[what]:
            continue
        act = Act(at, what, chance.choice(workers), chance.choice(accounts), how, lasts)
        acts.append(act)
        free[what] = at + _rest(what, kind, lasts)
        if what == "logout":
            again = at + chance.uniform(0.1, 2.0)
            acts.append(replace(act, at=again, what="login", who=chance.choice(workers)))
    return sorted(acts, key=lambda act: act.at)


def _how(what: str, store: str, kind: Kind, chance: random.Random) -> str:
    match what:
        case "trap" | "trap-kill":
            return chance.choice(STEPS)
        case "fault":
            return chance.choice(kind.faults)
        case "store":
            ways = (*OUTAGES[store], *(FLUSH.get(store, ()) if kind.flush else ()))
            return chance.choice(ways) if ways else ""
    return "-"


def _how_long(what: str, chance: random.Random) -> float:
    match what:
        case "pause" | "trap":
            return chance.uniform(*chance.choice([SHORT, LONG]))
        case "store":
            return chance.uniform(*OUTAGE)
    return chance.uniform(*SHORT)


def _rest(what: str, kind: Kind, lasts: float) -> float:
    """Outages of the store do not overlap, and two lost responses are further apart than the grace allows."""
    return {"store": lasts + SHORT[1], "fault": min(kind.grace / 2 + SHORT[1], 3 * TRAP)}.get(what, 0.0)
