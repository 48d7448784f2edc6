"""A history put in order: which tokens came of which, who saved what, and who was disturbed when."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

from tests.jepsen.history import Event

Span = tuple[float, float]
RECOVERY = 2.0  # seconds after the end of an outage until every process may be expected to be connected again


@dataclass(frozen=True, slots=True)
class Put:
    """A record that a process wrote, or tried to."""

    account: str
    process: str
    since: float
    at: float  # inf: it never came back
    outcome: str  # saved, conflict, unsaved, or saving for one that never came back
    epoch: int  # how often the store had been emptied before
    expected: int
    generation: int
    state: str
    refresh: str | None
    access: str | None

    @property
    def may_count(self) -> bool:
        return self.outcome != "conflict"


@dataclass(frozen=True, slots=True)
class Access:
    """An access token by the server's own account."""

    family: str
    issued: float
    expires: float


class Facts:
    def __init__(self, history: Sequence[Event]) -> None:
        self.history = history
        self.by: dict[str, list[Event]] = defaultdict(list)
        for event in history:
            self.by[event.what].append(event)
        (self.terms,) = self.by["terms"]
        self.end = history[-1].at
        self.flushed = [event.at for event in self.by["flushed"]]

    # -- what the server gave

    @cached_property
    def chain(self) -> dict[str, tuple[int, int]]:
        """Refresh token -> (number of its login, how many refreshes after it): later is greater."""
        logins: dict[str, int] = {}
        places: dict[str, tuple[int, int]] = {}
        for event in self.by["issued"]:
            login = logins.setdefault(event["family"], len(logins))
            depth = places[event["exchanged"]][1] + 1 if event["exchanged"] else 0
            places[event["refresh"]] = (login, depth)
        return places

    @cached_property
    def family(self) -> dict[str, str]:
        return {event["refresh"]: event["family"] for event in self.by["issued"]}

    @cached_property
    def spent(self) -> dict[str, Event]:
        """Refresh token -> the exchange that used it up."""
        return {event["exchanged"]: event for event in self.by["issued"] if event["exchanged"]}

    @cached_property
    def access(self) -> dict[str, Access]:
        tokens: dict[str, Access] = {}
        for event in (*self.by["issued"], *self.by["repeated"]):
            issued = tokens[event["access"]].issued if event["access"] in tokens else event.at
            tokens[event["access"]] = Access(event["family"], issued, event["expires"])
        return tokens

    @cached_property
    def ended(self) -> dict[str, Event]:
        """Family -> when it was revoked, and by what (`reused`, or `revoked` by a client)."""
        return {event["family"]: event for event in (*self.by["reused"], *self.by["revoked"])}

    # -- what the processes wrote

    @cached_property
    def puts(self) -> list[Put]:
        """In the order in which the store took them, as far as that is known."""
        ends = {
            (event.who, event["account"], event["since"]): event
            for what in ("saved", "conflict", "unsaved")
            for event in self.by[what]
        }
        puts = []
        for begun in self.by["saving"]:
            end = ends.get((begun.who, begun["account"], begun["since"]))
            puts.append(
                Put(
                    begun["account"],
                    begun.who,
                    begun["since"],
                    end.at if end else inf,
                    end.what if end else "saving",
                    bisect.bisect(self.flushed, begun["since"]),
                    *(begun[name] for name in ("expected", "generation", "state", "refresh", "access")),
                )
            )
        return sorted(puts, key=lambda put: (put.account, put.epoch, put.generation, put.at))

    @cached_property
    def saved(self) -> dict[str, list[Put]]:
        """Account -> what was certainly saved, in its order."""
        saved = defaultdict(list)
        for put in self.puts:
            if put.outcome == "saved":
                saved[put.account].append(put)
        return saved

    @cached_property
    def accounts(self) -> list[str]:
        return sorted({put.account for put in self.puts})

    @cached_property
    def account_of(self) -> dict[str, str]:
        """Refresh token or family -> whose it is."""
        owners = {put.refresh: put.account for put in self.puts if put.refresh}
        owners |= {self.family[refresh]: owner for refresh, owner in owners.items() if refresh in self.family}
        return owners | {
            refresh: owners[family] for refresh, family in self.family.items() if family in owners
        }

    # -- who was hindered

    @cached_property
    def pauses(self) -> dict[str, list[Span]]:
        """Process -> when the nemesis had stopped it."""
        spans: dict[str, list[Span]] = defaultdict(list)
        stopped: dict[str, float] = {}
        for event in self.history:
            if event.what == "paused":
                stopped.setdefault(event["process"], event.at)
            elif event.what in {"resumed", "killed"} and event["process"] in stopped:
                spans[event["process"]].append((stopped.pop(event["process"]), event.at))
        for process, since in stopped.items():
            spans[process].append((since, self.end))
        return spans

    @cached_property
    def lates(self) -> dict[str, list[Span]]:
        """Process -> when the machine gave it no turn."""
        spans = defaultdict(list)
        for event in self.by["late"]:
            spans[event.who].append((event["since"], event.at))
        return spans

    @cached_property
    def outages(self) -> list[Span]:
        ups = [event.at for event in self.by["store-up"]]
        return [
            (down.at, next((up for up in ups if up >= down.at), self.end) + RECOVERY)
            for down in self.by["store-down"]
        ]

    def undisturbed(self, process: str, start: float, end: float, *, store: bool = True) -> float:
        """The seconds between that the process could use; `store`: and with the store in reach."""
        hindered = [*self.pauses[process], *self.lates[process], *(self.outages if store else ())]
        return max(0.0, end - start) - overlap(hindered, start, end)

    def lives(self, process: str) -> Span:
        """From when to when it ran."""
        started = next((event.at for event in self.by["started"] if event.who == process), inf)
        killed = next((event.at for event in self.by["killed"] if event["process"] == process), inf)
        return started, killed


def overlap(spans: Iterable[Span], start: float, end: float) -> float:
    """How much of start…end is covered by any of `spans`."""
    covered, reached = 0.0, start
    for since, until in sorted(spans):
        until_end = min(until, end)
        if until_end > reached:
            covered += until_end - max(since, reached)
            reached = until_end
    return covered
