"""A history written by hand: tokens that the server issued, acts of the processes, and faults.

Tokens are named by login and refresh: "1.2" is that of the first refresh of the first login; its refresh
token is "r1.2", its access token "a1.2". The account is always ann. Times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.jepsen import checker
from tests.jepsen.history import Event, event

ANN = "ann"


@dataclass
class Scenario:
    """By default a server with a grace of 3 s and access tokens of 10 s, and the processes a and b."""

    grace: float = 3.0
    life: float = 10.0
    events: list[Event] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.note(0.0, "nemesis", "terms", lease=3.0, grace=self.grace)
        for process in "ab":
            self.note(0.0, process, "started")

    def note(self, at: float, who: str, what: str, **about: Any) -> None:
        self.events.append(event(at, who, what, **about))

    # -- the server

    def gives(self, at: float, token: str) -> None:
        family, generation = map(int, token.split("."))
        about = {"account": ANN, "family": family, "generation": generation}
        access = {"kind": "access_token", "token": f"a{token}", "expires": at + self.life, "spent": None}
        refresh = {"kind": "refresh_token", "token": f"r{token}", "expires": None}
        self.note(at, "server", "token", **about, **access)
        self.note(at, "server", "token", **about, **refresh)
        if generation > 1:
            self.spent[f"r{family}.{generation - 1}"] = at

    def sees_reuse(self, at: float, token: str) -> None:
        family = _family(token)
        about = {"account": ANN, "family": family}
        self.note(at, "server", "asked", **about, refresh=f"r{token}", outcome="reuse_detected", fault="")
        self.note(at, "server", "revoked", **about, reason="reuse")

    # -- a process

    def sends(self, at: float, who: str, token: str) -> None:
        self.note(at, who, "sending", refresh=f"r{token}")

    def saves(
        self,
        at: float,
        who: str,
        token: str,
        generation: int,
        *,
        expected: int | None = None,
        state: str = "valid",
        outcome: str = "saved",
    ) -> None:
        """`outcome` "": it never came back."""
        about = {
            "account": ANN,
            "expected": generation - 1 if expected is None else expected,
            "generation": generation,
            "state": state,
            "refresh": f"r{token}",
            "access": f"a{token}",
            "since": at,
        }
        self.note(at, who, "saving", **about)
        if outcome:
            self.note(at + 0.01, who, outcome, **about)

    def logs_in(self, at: float, who: str, token: str, generation: int = 1) -> None:
        self.gives(at, token)
        self.saves(at + 0.01, who, token, generation)

    def refreshes(self, at: float, who: str, old: str, new: str, generation: int) -> None:
        self.sends(at, who, old)
        self.gives(at + 0.01, new)
        self.saves(at + 0.02, who, new, generation)
        self.note(at + 0.04, who, "released", account=ANN)

    def logs_out(self, at: float, who: str, token: str, generation: int) -> None:
        self.note(at, who, "logging-out", account=ANN)
        self.saves(at, who, "", generation, state="logged_out")
        self.note(at + 0.1, "server", "revoked", account=ANN, family=_family(token), reason="client")

    def attaches(self, at: float, who: str, token: str) -> None:
        about = {"account": ANN, "token": f"a{token}", "status": "200"}
        self.note(at + 0.01, who, "request", since=at, got=at, **about)

    # -- the nemesis

    def stops(self, who: str, since: float, until: float) -> None:
        self.note(since, "nemesis", "paused", process=who)
        self.note(until, "nemesis", "resumed", process=who)

    def kills(self, at: float, who: str) -> None:
        self.note(at, "nemesis", "killed", process=who)

    def empties_the_store(self, at: float) -> None:
        self.note(at, "nemesis", "flushed", since=at - 0.01)

    def takes_the_store_away(self, since: float, until: float) -> None:
        self.note(since, "nemesis", "store-down")
        self.note(until, "nemesis", "store-up")

    # -- the end

    def ends(self, at: float, token: str, state: str = "valid", *, served: bool | None = None) -> None:
        is_served = state == "valid" if served is None else served
        self.note(at, "nemesis", "calm")
        self.note(at, "a", "end", account=ANN, ended="200" if is_served else "LoginRequired")
        self.note(at, "a", "proof", account=ANN, ended="done" if is_served else "LoginRequired")
        self.note(at, "nemesis", "stored", account=ANN, state=state, refresh=f"r{token}", access=f"a{token}")

    def breaks(self) -> set[str]:
        """The rules that the checker finds broken."""
        return set(checker.check(self.history()).faults)

    def history(self) -> list[Event]:
        for one in self.events:
            if one.get("kind") == "refresh_token":
                one.about["spent"] = self.spent.get(one["token"])
        return sorted(self.events, key=lambda one: one.at)


def _family(token: str) -> int:
    return int(token.partition(".")[0])
