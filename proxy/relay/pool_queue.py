"""The requests that wait for a connection of one pool, in the order of their arrival. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from proxy.relay.problems import Refusal

if TYPE_CHECKING:
    from proxy.relay.upstream import Upstream

NEVER: Final = float("inf")


class Waiter(Protocol):
    """A request in the queue. Unless it leaves, one of the first two is called, once; neither raises."""

    def connected(self, upstream: Upstream) -> None:
        """Here is its connection."""
        ...

    def not_connected(self, refusal: Refusal) -> None:
        """There is none for it."""
        ...

    def is_sent_once(self) -> bool:
        """Whether it can't be sent again if its connection turns out to have ended."""
        ...


Line = OrderedDict[Waiter, tuple[float, int]]  # with its deadline (loop time) and number; both increase


class Queue:
    """`any`: those for which every connection will do. `new`: those for which it must be a new one."""

    __slots__ = ("_count", "any", "new")

    def __init__(self) -> None:
        self.any: Line = OrderedDict()
        self.new: Line = OrderedDict()
        self._count = 0  # of all that have ever come

    @property
    def length(self) -> int:
        return len(self.any) + len(self.new)

    def add(self, waiter: Waiter, deadline: float, *, only_new: bool) -> None:
        self._count += 1
        line = self.new if only_new else self.any
        line[waiter] = deadline, self._count

    def remove(self, waiter: Waiter) -> None:
        """If it is there."""
        self.any.pop(waiter, None)
        self.new.pop(waiter, None)

    def take_for_new(self) -> Waiter | None:
        """Take out the first of all, for a new connection."""
        line = self.new if _first_place(self.new) < _first_place(self.any) else self.any
        return line.popitem(last=False)[0] if line else None

    def take_overdue(self, now: float) -> Iterator[Waiter]:
        """Take out those whose deadline has come, one by one."""
        for line in (self.new, self.any):
            while _first_place(line)[0] <= now:
                yield line.popitem(last=False)[0]


def first(line: Line) -> Waiter:
    """Of a line that is not empty."""
    return next(iter(line))


def take_all(line: Line) -> Iterator[Waiter]:
    """Take out all that wait now, one by one: one may leave because of what another does."""
    for _ in range(len(line)):
        if line:
            yield line.popitem(last=False)[0]


def _first_place(line: Line) -> tuple[float, int]:
    return next(iter(line.values()), (NEVER, 0))
