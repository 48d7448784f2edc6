"""A history in order: the descent of tokens, the puts, and the disturbances of each process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

from tests.jepsen.history import Event

Span = tuple[float, float]
RECOVERY = 2.0  # seconds after the end of an outage until every process is expected to be connected again


@dataclass(frozen=True, slots=True)
class Put:
    """A record that a process wrote, or tried to."""

    account: str
    process: str
    since: float
    at: float  # inf: it never returned
    outcome: str  # saved, conflict, unsaved, or saving for one that never returned
    epoch: int  # how often the store had been emptied before
    expected: int
    generation: int
    state: str
    refresh: str | None
    access: str | None

    @property
    def may_count(self) -> bool:
        return self.outcome != "conflict"

    def meets(self, spans: Iterable[Span]) -> bool:
        return any(self.since <= end and self.at >= since for since, end in spans)


@dataclass(frozen=True, slots=True)
class Token:
    """From the journal of the server."""

    account: str
    family: int
    generation: int  # 1: of the login
    issued: float
    expires: float  # inf: never
    spent: float | None  # when it was exchanged for its successor


class Facts:
    def __init__(self, history: Sequence[Event]) -> None:
        self.history = history
        self.by: dict[str, list[Event]] = defaultdict(list)
        for event in history:
            self.by[event.what].append(event)
        (self.terms,) = self.by["terms"]
        self.end = history[-1].at
        self.flushes: list[Span] = [(event["since"], event.at) for event in self.by["flushed"]]

    # -- tokens of the server

    @cached_property
    def refresh_tokens(self) -> dict[str, Token]:
        return {
            event["token"]: _token(event) for event in self.by["token"] if event["kind"] == "refresh_token"
        }

    @cached_property
    def access_tokens(self) -> dict[str, Token]:
        return {
            event["token"]: _token(event) for event in self.by["token"] if event["kind"] == "access_token"
        }

    @cached_property
    def ended(self) -> dict[int, Event]:
        """Family -> when it was revoked, and why (`reuse`, or by the `client`: a logout)."""
        return {event["family"]: event for event in reversed(self.by["revoked"])}

    @cached_property
    def reuses(self) -> list[Event]:
        """The requests by which a family was lost."""
        return [event for event in self.by["asked"] if event["outcome"] == "reuse_detected"]

    def position(self, refresh: str | None) -> tuple[float, int]:
        """Later is greater: by login, then by refreshes. Before all others if the server never issued it."""
        token = self.refresh_tokens.get(refresh or "")
        return (self._begun[token.family], token.generation) if token else (-inf, 0)

    @cached_property
    def _begun(self) -> dict[int, float]:
        return {token.family: token.issued for token in self.refresh_tokens.values() if token.generation == 1}

    def account_of(self, refresh: str | None) -> str | None:
        token = self.refresh_tokens.get(refresh or "")
        return token.account if token else None

    def successor(self, of: Token) -> str | None:
        """The refresh token that replaced it."""
        after = of.family, of.generation + 1
        return next(
            (
                name
                for name, token in self.refresh_tokens.items()
                if (token.family, token.generation) == after
            ),
            None,
        )

    # -- records of the processes

    @cached_property
    def puts(self) -> list[Put]:
        """In the order in which the store accepted them, as far as known."""
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
                    sum(end <= begun["since"] for _, end in self.flushes),
                    *(begun[name] for name in ("expected", "generation", "state", "refresh", "access")),
                )
            )
        return sorted(puts, key=lambda put: (put.account, put.epoch, put.generation, put.at))

    @cached_property
    def saved(self) -> dict[str, list[Put]]:
        """Account -> the puts that were certainly saved, in order."""
        saved = defaultdict(list)
        for put in self.puts:
            if put.outcome == "saved":
                saved[put.account].append(put)
        return saved

    @cached_property
    def accounts(self) -> list[str]:
        return sorted({put.account for put in self.puts})

    # -- disturbances

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
        """Process -> when it was starved by the machine."""
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
        """The seconds in between in which the process ran; `store`: and the store was reachable."""
        hindered = [*self.pauses[process], *self.lates[process], *(self.outages if store else ())]
        return max(0.0, end - start) - overlap(hindered, start, end)

    def lives(self, process: str) -> Span:
        """The times of its start and end."""
        started = next((event.at for event in self.by["started"] if event.who == process), inf)
        killed = next((event.at for event in self.by["killed"] if event["process"] == process), inf)
        return started, killed


def overlap(spans: Iterable[Span], start: float, end: float) -> float:
    """How much of start…end is covered by any of `spans`."""
    covered, reached = 0.0, start
    for since, until in sorted(spans):
        begins, ends = max(since, reached), min(until, end)
        if ends > begins:
            covered += ends - begins
            reached = ends
    return covered


def _token(event: Event) -> Token:
    expires = inf if event["expires"] is None else event["expires"]
    return Token(event["account"], event["family"], event["generation"], event.at, expires, event["spent"])
