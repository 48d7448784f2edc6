"""The part of a history that a fault is about, for a person to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.jepsen.facts import Facts
from tests.jepsen.history import Event

BEFORE, AFTER = 10.0, 1.0  # seconds around the fault
QUIET = {"request", "judged", "denied", "read", "late", "terms", "end", "rested", "settled", "proved"}


def summary(facts: Facts, excused: int) -> str:
    """What happened, in numbers: a run in which nothing happened shows nothing."""
    counts = Counter(event.what for event in facts.history)
    answers = Counter(event["status"] for event in facts.by["request"])
    told = {
        "requests": counts["request"],
        "refused": answers["401"],
        "denied": counts["denied"],
        "refreshes": sum(1 for event in facts.by["issued"] if event["exchanged"]),
        "repeated": counts["repeated"],
        "logins": sum(1 for event in facts.by["issued"] if not event["exchanged"]),
        "pauses": counts["paused"],
        "kills": counts["killed"],
        "outages": counts["store-down"],
        "emptied": counts["flushed"],
        "families lost": f"{counts['reused']} ({excused} excused)",
    }
    return ", ".join(f"{name} {value}" for name, value in told.items())


def story(facts: Facts, at: float, account: str | None) -> str:
    """A line for each step that this account took around `at`, and for what the nemesis did."""
    begun = facts.terms.at
    lines = [
        f"{event.at - begun:8.3f}  {event.who:8} {event.what:12} {_about(event)}"
        for event in _around(facts, at, account)
    ]
    return "\n".join(lines)


def _around(facts: Facts, at: float, account: str | None) -> Iterator[Event]:
    last: dict[tuple[str, str], object] = {}
    for event in facts.history:
        if not at - BEFORE <= event.at <= at + AFTER or event.what in QUIET - {"request", "denied", "read"}:
            continue
        if _owner(facts, event) not in {account, None}:
            continue
        if event.what in {"request", "denied", "read"}:  # only where it changes
            seen = event.get("token"), event.get("status"), event.get("reason"), event.get("refresh")
            if last.get((event.who, event.what)) == seen:
                continue
            last[event.who, event.what] = seen
        yield event


def _owner(facts: Facts, event: Event) -> str | None:
    """Whose event it is; None: everybody's."""
    for name in ("account", "refresh", "family", "exchanged"):
        if (value := event.get(name)) is not None:
            return str(value) if name == "account" else facts.account_of.get(str(value), "?")
    return None


def _about(event: Event) -> str:
    hidden = {"account", "since", "got"}
    return " ".join(f"{name}={value}" for name, value in event.about.items() if name not in hidden)
