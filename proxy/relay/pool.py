"""The connections to one route's upstream that carry one account's requests."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.relay.upstream import Upstream

EVER: Final = float("inf")


class Pool:
    """The connections of one route and account: no other account's response can arrive on them."""

    __slots__ = ("_idle", "_open", "_probed", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: deque[Upstream] = deque()  # the most recently used at the right
        self._open: set[Upstream] = set()
        self._probed = 0.0  # loop time; connections that became idle before it have been probed

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def active(self) -> int:
        return len(self._open) - len(self._idle)

    def take(self) -> Upstream | None:
        """The most recently used connection: surplus ones stay idle until they are closed."""
        return self._idle.pop() if self._idle else None

    def take_alive(self) -> Upstream | None:
        """Like `take`, for a request that can't be sent again: skips connections that have ended."""
        while (upstream := self.take()) is not None:
            upstream.probe()
            if upstream.is_open:
                return upstream
        return None

    def give(self, upstream: Upstream) -> None:
        """Keep a connection whose exchange is over, or close it if there are enough."""
        if len(self._idle) >= self._size:
            upstream.close()
            return
        self._idle.append(upstream)

    def opened(self, upstream: Upstream) -> None:
        self._open.add(upstream)

    def closed(self, upstream: Upstream) -> None:
        self._open.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)

    def retire(self) -> None:
        """Keep no idle connections from now on; a connection in use is closed after its exchange."""
        self._size = 0
        self.close_idle(EVER)

    def close_idle(self, before: float) -> None:
        """Close connections that have been idle since `before` (loop time), or that have ended."""
        while self._idle and self._idle[0].idle_since < before:
            self._idle[0].close()
        self._probe()

    def _probe(self) -> None:
        """Read each newly idle connection once: a reset that came with the response may raise no event."""
        if not self._idle:
            return
        now = asyncio.get_running_loop().time()
        new = list(takewhile(lambda upstream: upstream.idle_since >= self._probed, reversed(self._idle)))
        self._probed = now
        for upstream in new:
            upstream.probe()

    def close(self) -> None:
        for upstream in list(self._open):
            upstream.close()
