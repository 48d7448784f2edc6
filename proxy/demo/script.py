"""Rules that assign faults to token requests, and their notation on the command line.

The first rule that matches a request applies to it and is used up by one. The notation of a rule is

    NAME[:TIMES][@FROM[-TO]]

with a name of `faults.NAMED`, the number of requests it applies to (default: all) and the seconds from and
until which it applies, e.g. `drop-after-commit:1`.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from proxy.demo.faults import Fault, named

_ORDER: Final = re.compile(
    r"(?P<name>[a-z0-9-]+?)(?::(?P<times>[1-9][0-9]{0,5}))?(?:@(?P<start>[0-9]{1,6})(?:-(?P<end>[0-9]{1,6}))?)?"
)
PASS: Final = Fault()


@dataclass(slots=True, kw_only=True)
class Rule:
    fault: Fault
    times: int | None = 1  # remaining; None: unlimited
    client_id: str | None = None  # None: any
    subject: str | None = None
    grant_type: str | None = None
    starts_at: float = -math.inf  # boot clock
    ends_at: float = math.inf

    def matches(self, *, client_id: str, subject: str | None, grant_type: str, now: float) -> bool:
        return (
            self.starts_at <= now < self.ends_at
            and self.client_id in (None, client_id)
            and self.subject in (None, subject)
            and self.grant_type in (None, grant_type)
        )


class Script:
    """The rules in the order given, without those that are used up."""

    def __init__(self) -> None:
        self._rules: deque[Rule] = deque()

    def add(self, rule: Rule) -> None:
        self._rules.append(rule)

    def clear(self) -> None:
        self._rules.clear()

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def next(self, *, client_id: str, subject: str | None, grant_type: str, now: float) -> Fault:
        """The fault for this request; uses up one of its rule's times."""
        while self._rules and self._rules[0].ends_at <= now:
            self._rules.popleft()
        for position, rule in enumerate(self._rules):
            if rule.matches(client_id=client_id, subject=subject, grant_type=grant_type, now=now):
                if rule.times is not None:
                    rule.times -= 1
                if rule.times == 0:
                    del self._rules[position]
                return rule.fault
        return PASS


@dataclass(frozen=True, slots=True)
class Order:
    """A rule as written on the command line. Seconds count from its start at the server."""

    fault: Fault
    times: int | None = None
    after: float = 0.0
    lasting: float = math.inf

    def __str__(self) -> str:
        times = {None: "", 1: "once"}.get(self.times, f"{self.times} times")
        start = f"from second {self.after:g}" if self.after else ""
        end = f"until second {self.after + self.lasting:g}" if math.isfinite(self.lasting) else ""
        when = " ".join(filter(None, (times, start, end)))
        return f"{self.fault.name}: {self.fault.about}" + (f" ({when})" if when else "")


def parse_order(text: str) -> Order:
    """Parse NAME[:TIMES][@FROM[-TO]]. Raises ValueError with the expected form."""
    found = _ORDER.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r}: expected NAME[:TIMES][@FROM[-TO]], such as outage, html:1 or outage@30-90"
        )
    start, end = int(found["start"] or 0), int(found["end"]) if found["end"] else math.inf
    if end <= start:
        raise ValueError(f"{text!r} ends before it starts")
    return Order(
        fault=named(found["name"]),
        times=int(found["times"]) if found["times"] else None,
        after=start,
        lasting=end - start,
    )


def parse_orders(text: str) -> list[Order]:
    """Parse several, separated by commas. Raises ValueError like `parse_order`."""
    return [parse_order(part.strip()) for part in text.split(",")]
