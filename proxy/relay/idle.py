"""The idle connections of all pools, by age: the oldest give way to new ones when open files run short.

A linked list through the connections themselves, as each request takes one and adds it again.
"""

from __future__ import annotations

from typing import Final

from proxy.fd_limits import Descriptors

GIVE_WAY: Final = (
    8  # closed at most for one new connection; if that frees no file, others take them meanwhile
)


class Idle:
    """A connection in the list."""

    __slots__ = ("idle_since", "newer", "older")

    def __init__(self) -> None:
        self.idle_since = 0.0  # loop time
        self.older: Idle | None = None
        self.newer: Idle | None = None

    def close(self) -> None:
        raise NotImplementedError


class IdleConnections:
    """Of all routes and accounts, those of former configurations too. The one that was used last is last."""

    __slots__ = ("_descriptors", "_newest", "_oldest")

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors = descriptors
        self._oldest: Idle | None = None
        self._newest: Idle | None = None

    @property
    def is_empty(self) -> bool:
        return self._oldest is None

    def close_one(self) -> None:
        """Close the oldest."""
        if self._oldest is not None:
            self._oldest.close()

    @property
    def oldest(self) -> Idle | None:
        return self._oldest

    def add(self, upstream: Idle) -> None:
        before = self._newest
        upstream.older = before
        if before is None:
            self._oldest = upstream
        else:
            before.newer = upstream
        self._newest = upstream

    def remove(self, upstream: Idle) -> None:
        """`upstream` must be in the list."""
        older, newer = upstream.older, upstream.newer
        if older is None:
            self._oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self._newest = older
        else:
            newer.older = older
        upstream.older = upstream.newer = None

    def make_room(self) -> bool:
        """Whether another connection to an upstream may be opened; closes idle ones for it if need be."""
        descriptors = self._descriptors
        for _ in range(GIVE_WAY):
            oldest = self._oldest
            if oldest is None or descriptors.can_hold_another_upstream():
                break
            oldest.close()
        return descriptors.hold_another_upstream()
