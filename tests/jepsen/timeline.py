"""The part of a history around a fault, in readable form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.jepsen.facts import Facts
from tests.jepsen.history import Event

BEFORE, AFTER = 10.0, 1.0  # seconds around the fault
ON_CHANGE = {"request", "denied", "read"}  # shown only if they differ from the previous ones
QUIET = {"late", "terms", "end"}


def summary(facts: Facts, excused: int) -> str:
    """The counts of events: all zeros reveal a run that tested nothing."""
    calm = facts.by["calm"][0].at if facts.by["calm"] else facts.end  # afterwards all workers are killed
    counts = Counter(event.what for event in facts.history if event.at <= calm)
    responses = Counter(event["status"] for event in facts.by["request"])
    told = {
        "requests": counts["request"],
        "refused": responses["401"],
        "denied": counts["denied"],
        "refreshes": sum(token.generation > 1 for token in facts.refresh_tokens.values()),
        "repeated": sum(event["outcome"] == "repeated" for event in facts.by["asked"]),
        "logins": sum(token.generation == 1 for token in facts.refresh_tokens.values()),
        "pauses": counts["paused"],
        "kills": counts["killed"],
        "outages": counts["store-down"],
        "emptied": counts["flushed"],
        "families lost": f"{len(facts.reuses)} ({excused} excused)",
    }
    return ", ".join(f"{name} {value}" for name, value in told.items())


def timeline(facts: Facts, at: float, account: str | None) -> str:
    """A line for each step of this account around `at`, and for each act of the nemesis."""
    begun = facts.terms.at
    lines = [
        f"{event.at - begun:8.3f}  {event.who:8} {event.what:12} {_about(event)}"
        for event in _around(facts, at, account)
    ]
    return "\n".join(lines)


def _around(facts: Facts, at: float, account: str | None) -> Iterator[Event]:
    last: dict[tuple[str, str], object] = {}
    for event in facts.history:
        if not at - BEFORE <= event.at <= at + AFTER or event.what in QUIET:
            continue
        if _owner(facts, event) not in {account, None}:
            continue
        if event.what in ON_CHANGE:
            seen = event.get("token"), event.get("status"), event.get("reason"), event.get("refresh")
            if last.get((event.who, event.what)) == seen:
                continue
            last[event.who, event.what] = seen
        yield event


def _owner(facts: Facts, event: Event) -> str | None:
    """The account of an event; None if it concerns all."""
    return event.get("account") or facts.account_of(event.get("refresh"))


def _about(event: Event) -> str:
    hidden = {"account", "since", "got"}
    return " ".join(f"{name}={value}" for name, value in event.about.items() if name not in hidden)
