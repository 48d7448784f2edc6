"""How many dials of one pool may be under way at once. Pure.

Few at first: an upstream that can't be reached gets no flood of them, and a thousand handshakes at once would
keep all requests waiting. To an upstream that is far away a dial mostly waits for the network, and many are
needed to open as many connections a second as to one that is near. So once it has accepted a connection the
bound grows, while it is what callers wait for. In a busy process it does not: more dials would only wait for
each other.

    the bound is reached ──► PACE later: still reached, and the loop was free ──yes──► twice as many ─┐
             ▲                                     └─ no: as it was                                   │
             └────────────────────────────────────────────────────────────────────────────────────────┘
    a dial has failed, or none is under way any more ──► few again
"""

from __future__ import annotations

from typing import Final

AT_FIRST = 64  # dials; 30 ms of handshakes. Not Final: for comparisons (measure_crowds.py)
PACE: Final = 0.01  # seconds between two steps: a thousand dials are begun within half of a far round trip
BUSY: Final = 0.03  # seconds; a loop that is later than this is busy: the first handshakes take as long


class DialBound:
    """`most`: limits.dials."""

    __slots__ = ("_at_first", "_due", "_most", "allowed")

    def __init__(self, most: int) -> None:
        self._at_first = min(AT_FIRST, most)
        self._most = most
        self._due = 0.0  # loop time of the next step
        self.allowed = self._at_first

    @property
    def may_grow(self) -> bool:
        return self.allowed < self._most

    def next_step(self, now: float) -> float:
        """When `grow` is to be called. `now`: loop time."""
        self._due = now + PACE
        return self._due

    def grow(self, now: float) -> None:
        """`now`: loop time; later than it should be in a busy process."""
        if now - self._due <= BUSY:
            self.allowed = min(self._most, 2 * self.allowed)

    def restart(self) -> None:
        self.allowed = self._at_first
