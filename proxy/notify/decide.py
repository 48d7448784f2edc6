"""Decides which reports are due. Pure.

An account is reported when it needs a person, and when it works again. Of an account that changes more often
than that (it flaps), at most one report in PAUSE is due, whichever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

T = TypeVar("T")

PAUSE: Final = 600.0  # seconds between two reports of an account that flaps
CALM: Final = 2 * PAUSE  # an account that needs a person again within this time flaps
AT_ONCE: Final = 10  # reports in PAUSE with a message each: a person reads no more


class Condition(Enum):
    """What there is to report of an account."""

    NEEDS = "a person must act"
    WORKS = "it has a usable token, and needs nobody"
    EXPECTED = "a person must act, as is known to people: nobody has logged in yet, or somebody logged out"
    NEITHER = "no usable token now, but nothing for a person to do"


@dataclass(frozen=True, slots=True)
class Seen:
    """An account now."""

    condition: Condition
    tokens: float | None  # tells sets of tokens apart: when they were issued (Unix s). None: it has none


@dataclass(frozen=True, slots=True)
class Reported:
    """The last report of an account."""

    needs: bool  # that it needs a person; else that it works again
    tokens: float | None  # as in Seen
    at: float  # Unix s
    flaps: bool


def due_in(seen: Seen, last: Reported | None, now: float) -> float | None:
    """Seconds until a report is due, if nothing changes until then; None: there is nothing to report.

    `now`: Unix s.
    """
    if seen.condition not in {Condition.NEEDS, Condition.WORKS}:
        return None
    needs = seen.condition is Condition.NEEDS
    if last is None:
        return 0.0 if needs else None
    if needs == last.needs and not (needs and _are_others(seen.tokens, last.tokens)):
        return None
    since = now - last.at
    if since < -PAUSE:
        return 0.0  # the clock was set back: a report too many is better than none for a long time
    if not needs and not last.flaps:
        return 0.0
    return max(0.0, PAUSE - since)


def _are_others(tokens: float | None, reported: float | None) -> bool:
    """Whether it had new tokens since, which have ended too."""
    return tokens is not None and tokens != reported


def reported(seen: Seen, last: Reported | None, now: float) -> Reported:
    """What the next report leaves behind. `now`: Unix s."""
    needs = seen.condition is Condition.NEEDS
    if last is None:
        return Reported(needs, seen.tokens, now, flaps=False)
    flaps = abs(now - last.at) < CALM if needs else last.flaps
    return Reported(needs, seen.tokens, now, flaps)


def messages(needing: Sequence[T], working: Sequence[T], room: int) -> list[list[T]]:
    """The accounts of each message: one each, while there is room for all; else one for each kind of report.

    `room`: how many messages may still be sent, so that there are no more than AT_ONCE in PAUSE.
    """
    if len(needing) + len(working) <= room:
        return [[each] for each in (*needing, *working)]
    return [list(each) for each in (needing, working) if each]
