"""What the nemesis will do: a seed in, a list of acts out. Pure, so that a seed tells the whole run.

Some things that no client could survive come from two faults that meet: who has the answer is killed, and
everybody else is stopped, or has no store, until the grace is over. So there are three kinds of runs: in
those with a short grace, processes are either stopped or killed, and kills, outages of the store and lost
answers keep apart. In the third kind all of it meets, and the grace is longer than all of it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tests.jepsen.recording import STEPS

LEASE = 3.0  # seconds, as in DESIGN 2.4
SHORT = (0.1, 0.7)  # seconds of a pause: too short for a request to time out
LONG = (LEASE + 0.2, 2 * LEASE + 0.5)  # seconds of a pause past the lease
OUTAGE = (0.3, 3.5)  # seconds without the store
PACE = 0.3  # seconds between two acts, on average
TRAP = 2.5  # seconds that a trap, or a fault of the authorization server, waits for its prey
OUTAGES = {"redis": ("kill", "pause", "flush", "flush"), "postgres": ("fast", "immediate"), "sqlite": ()}
LOSSY = ("drop-after-commit", "slow-after-commit")
HARMLESS = ("drop-before", "slow", "outage")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of run: the server's grace in seconds, and how often what is done."""

    grace: float
    weights: Mapping[str, int]
    faults: Sequence[str]
    apart: bool


_COMMON = {"login": 2, "logout": 1, "fault": 3, "store": 4}
KINDS = (
    Kind(3.0, {"pause": 5, "trap": 9, **_COMMON}, HARMLESS, apart=True),
    Kind(6.0, {"kill": 3, "trap-kill": 9, **_COMMON}, LOSSY + HARMLESS, apart=True),
    Kind(20.0, {"pause": 3, "trap": 5, "kill": 2, "trap-kill": 4, **_COMMON}, LOSSY + HARMLESS, apart=False),
)


@dataclass(frozen=True, slots=True)
class Act:
    at: float  # seconds since the start
    what: str
    who: str  # a worker
    account: str
    how: str  # a step, a fault or what to do to the store
    seconds: float  # that a pause or an outage lasts


def kind_of(seed: int) -> Kind:
    return KINDS[seed % len(KINDS)]


def plan(seed: int, seconds: float, store: str, workers: Sequence[str], accounts: Sequence[str]) -> list[Act]:
    chance, kind = random.Random(f"{seed} {store}"), kind_of(seed)
    apart = kind.grace if kind.apart else 0.0
    free = dict.fromkeys(("kill", "trap-kill", "store", "fault"), 0.0)  # from when on these may be done
    acts: list[Act] = []
    at = 0.0
    while (at := at + chance.expovariate(1 / PACE)) < seconds:
        what = chance.choices(list(kind.weights), list(kind.weights.values()))[0]
        how, lasts = _how(what, store, kind, chance), _how_long(what, chance)
        act = Act(at, what, chance.choice(workers), chance.choice(accounts), how, lasts)
        if not how or at < free.get(what, 0.0):
            continue
        acts.append(act)
        if what == "logout":
            again = at + chance.uniform(0.1, 2.0)
            acts.append(replace(act, at=again, what="login", who=chance.choice(workers)))
        elif what in free:
            for other in free.keys() - ({"kill", "trap-kill"} if "kill" in what else set()):
                free[other] = max(free[other], at + TRAP + lasts + apart)
    return sorted(acts, key=lambda act: act.at)


def _how(what: str, store: str, kind: Kind, chance: random.Random) -> str:
    match what:
        case "trap" | "trap-kill":
            return chance.choice(STEPS)
        case "fault":
            return chance.choice(kind.faults)
        case "store":
            return chance.choice(OUTAGES[store]) if OUTAGES[store] else ""
    return "-"


def _how_long(what: str, chance: random.Random) -> float:
    match what:
        case "pause" | "trap":
            return chance.uniform(*chance.choice([SHORT, LONG]))
        case "store":
            return chance.uniform(*OUTAGE)
    return chance.uniform(*SHORT)
