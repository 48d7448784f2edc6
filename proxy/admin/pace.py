"""A limit to the requests per second of a listener without authentication.

Without it, a few connections with one request after another would take most of the event loop's time from
the data path.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

RATE: Final = 100.0  # requests a second: some 2 % of a core. Probes and scrapers need one or two
BURST: Final = 20.0  # requests at once, before the first of them has to wait

IsHere = Callable[[], bool]


class Pace:
    """Turns for requests. Beyond the rate they wait, first come, first served."""

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self._rate = rate
        self._burst = burst
        self._turns = burst  # that are free, as of `_since`
        self._since = time.monotonic()
        self._waiting: deque[tuple[asyncio.Future[bool], IsHere]] = deque()

    def take(self) -> bool:
        """Take a turn, if one is free and nobody waits."""
        return not self._waiting and self._take()

    async def wait(self, is_here: IsHere) -> bool:
        """Wait for a turn; False if the peer has gone meanwhile."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, is_here))
        if len(self._waiting) == 1:
            self._plan()
        return await turn

    def _take(self) -> bool:
        now = time.monotonic()
        self._turns = min(self._burst, self._turns + (now - self._since) * self._rate)
        self._since = now
        if self._turns < 1:
            return False
        self._turns -= 1
        return True

    def _plan(self) -> None:
        """Give the next turn as soon as there is one."""
        pause = max(0.0, 1 - self._turns) / self._rate
        asyncio.get_running_loop().call_later(pause, self._give)

    def _give(self) -> None:
        while self._waiting:
            turn, is_here = self._waiting[0]
            is_wanted = not turn.done() and is_here()
            if is_wanted and not self._take():
                break
            self._waiting.popleft()
            if not turn.done():
                turn.set_result(is_wanted)
        if self._waiting:
            self._plan()
