"""What all accounts of one client at one authorization server share: its turns, its budget, its outages.

Each account waits by itself between its refreshes (account.py). That is enough for a few accounts; the
thousands that one client may have would still come to thousands of requests. So they take turns, at a pace.
When one has failed and none has succeeded since, they go one by one. When several have, or the server can't
be reached, or asked this client for a pause, it counts as down: one may try, with growing pauses between,
until one succeeds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from proxy.clock import Clock
from proxy.errors import AuthorizationServerError, ProxyError
from proxy.store.base import AccountId
from proxy.tokens.refresh import backoff

AT_ONCE: Final = 8  # refreshes: a herd of accounts must not look like an attack
CROWD: Final = 25  # refreshes ahead of time that wait for their turn; a request must not stand behind more
ACCOUNTS: Final = 2  # that must fail: one may have a trouble of its own, which is not to hold up others


class HeldBack(ProxyError):
    """The authorization server counts as down, and it is not yet time to try again."""


class ServerThrottle:
    def __init__(self, clock: Clock, rate: float) -> None:
        """`rate`: refreshes in a second, at most."""
        self.failure: AuthorizationServerError | None = None  # the last one, while the server counts as down
        self.hold_until = float("-inf")  # boot clock, as the next
        self.recovered_at = float("-inf")  # the last time that the server came back
        self.crowd = 0  # refreshes that have begun and not ended, waiting for their turn or having it
        self._clock = clock
        self._pause = 1 / rate
        self._next_at = 0.0  # event loop's clock: when the next may go
        self._failing: set[AccountId] = set()
        self._pauses = 0
        self._under_way = 0
        self._pacing = False  # one waits until `_next_at`, and all others behind it
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_shut(self) -> bool:
        return self.failure is not None and self._clock.boot() < self.hold_until

    @property
    def has_room(self) -> bool:
        """Whether a refresh that nobody waits for may join."""
        return not self.is_shut and self.crowd < CROWD

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the length of the block. Raises HeldBack."""
        await self._enter()
        try:
            yield
        finally:
            self._under_way -= 1
            self._wake()

    def try_now(self) -> None:
        """Somebody has mended something: let one try before its time."""
        self.hold_until = float("-inf")
        self._wake()

    def succeeded(self) -> None:
        if self.failure is not None:
            self.recovered_at = self._clock.boot()
        self._failing.clear()
        self.failure, self._pauses = None, 0
        self._wake()

    def failed(self, key: AccountId, error: AuthorizationServerError) -> None:
        if len(self._failing) < ACCOUNTS:
            self._failing.add(key)
        if len(self._failing) < ACCOUNTS and error.reached and error.retry_after is None:
            return
        now = self._clock.boot()
        if self.failure is None or now >= self.hold_until:  # else it was under way with others that failed
            self._pauses += 1
            self.hold_until = now + backoff.pause_after(error, self._pauses)
        self.failure = error
        self._wake()

    def may_repeat(self, error: AuthorizationServerError) -> bool:
        """Whether who has a turn may ask again at once: the answer may be lost, or nobody else is there."""
        return error.reached or self._under_way == 1

    @property
    def _most(self) -> int:
        return 1 if self._failing else AT_ONCE

    async def _enter(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self.is_shut and (self._pacing or self._under_way >= self._most):
                await self._wait()
            if self.is_shut:
                raise HeldBack("the authorization server is down: it is asked again shortly")
            pause = self._next_at - loop.time()
            if pause <= 0:
                break
            await self._keep_pace(pause)  # and look again: another may have failed meanwhile
        self._next_at = loop.time() + self._pause
        self._under_way += 1
        self._wake()

    async def _keep_pace(self, seconds: float) -> None:
        self._pacing = True
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self._pacing = False
            self._wake()
            raise
        self._pacing = False

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._wake()  # it may have been this one's turn
            raise

    def _wake(self) -> None:
        wanted = len(self._waiting) if self.is_shut else self._most - self._under_way
        while self._waiting and wanted > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                wanted -= 1
