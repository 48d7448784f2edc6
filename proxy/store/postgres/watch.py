"""Looks at a PostgreSQL store all the time, on a connection of its own.

It learns two things: what others have put, and that the server is there for everybody.

What was put is asked for four times a second, and at once when the server notifies of a put (LISTEN). Each
record holds the id of the transaction that put it, each look the server's snapshot; what the snapshot of
the last look does not show is new. No commit slips between two looks, however late it became visible.
Through a pgbouncer in transaction mode no notice arrives, and the four looks a second must do.

That the server is there matters for leases: one that has ended may be taken over only if its holder could
have renewed it. So a lease is taken over after its full length without a gap between two looks, by the
server's clock; and the statement that takes it must run soon after the last look, or it takes nothing.
Each look after a restart, a lost connection, a server that stood still or a clock that was set begins the
time anew. Of all who wait for a lease, this holds back only those who could not know better: its holder
renews it, what was released can be had at once, and so can the lease of a holder that is known to be dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final, Self

from proxy import tasks
from proxy.errors import StoreError
from proxy.store.base import AccountId
from proxy.store.postgres import statements
from proxy.store.postgres.link import Link, Server
from proxy.store.watchers import Watchers

LOOK_EVERY: Final = 0.25  # seconds
_BREATH: Final = 0.02  # seconds; puts that come together are looked at together
_LONGEST_GAP: Final = 1.0  # seconds; a holder renews once a second: no two of its renewals fall into one gap
_LONGEST_PAUSE: Final = 1.0  # seconds between two attempts while the server is away
_GRACE: Final = 1.0  # seconds that a look has to end when the store is closed

_log = logging.getLogger("proxy.store")


@dataclass
class Steadiness:
    """Since when the server has answered without a gap, by its own clock (Unix seconds)."""

    since: float = inf
    last: float = -inf

    def answered(self, at: float, *, unbroken: bool) -> None:
        if not unbroken or not 0 <= at - self.last <= _LONGEST_GAP:
            self.since = at
        self.last = at

    def window(self, seconds: float) -> tuple[float, float]:
        """When a lease of so many seconds may be taken over, if it has ended."""
        return self.since + seconds, self.last + _LONGEST_GAP


class Watch:
    """Made by `start`."""

    def __init__(self, server: Server, link: Link, schema: str) -> None:
        self.steady = Steadiness()
        self._server = server
        self._link: Link | None = link
        self._pause = LOOK_EVERY
        self._schema = schema
        self._seen: str | None = None  # the snapshot of the last look
        self._server_started: float | None = None  # Unix seconds; None: a new connection, anything may be new
        self._watchers = Watchers()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, server: Server, link: Link, schema: str) -> Self:
        """Returns after the first look. Raises StoreError; the link is the caller's until then."""
        watch = cls(server, link, schema)
        await watch._begin(link)
        watch._task = tasks.forever("watch PostgreSQL", watch._turn)
        return watch

    def follow(self) -> AsyncIterator[AccountId | None]:
        return self._watchers.add()

    async def _turn(self) -> None:
        """Wait for news and look at them, connecting first where need be. Raises Finished."""
        if self._stopping.is_set():
            raise tasks.Finished
        try:
            link = self._link or await self._connect()
            await link.wait_for_news(LOOK_EVERY)
            await asyncio.sleep(_BREATH)
            await self._look(link)
            self._pause = LOOK_EVERY
        except StoreError as error:
            if self._link is not None and not self._stopping.is_set():
                _log.error("changes by other processes can't be seen now: %s", error)
            await self._disconnect()
            await self._rest(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        except Exception:
            await self._disconnect()  # in an unknown state; a new connection says that anything may be new
            raise

    async def _connect(self) -> Link:
        link = await Link.open(self._server)
        try:
            await self._begin(link)
        except BaseException:
            await link.close()
            raise
        self._link = link
        return link

    async def _begin(self, link: Link) -> None:
        self._seen = self._server_started = None
        await link.ask(statements.rendered(statements.LISTEN, self._schema))
        await self._look(link)

    async def _look(self, link: Link) -> None:
        look = statements.rendered(statements.LOOK, self._schema)
        rows = await link.ask(look, {"seen": self._seen})
        now, self._seen, started = rows[0][:3]
        unbroken = started == self._server_started
        self._server_started = started
        self.steady.answered(now, unbroken=unbroken)
        keys = [AccountId(*row[3:]) for row in rows if row[3] is not None] if unbroken else [None]
        self._watchers.tell(keys)

    async def _disconnect(self) -> None:
        if self._link is not None:
            await self._link.close()
        self._link = None

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def close(self) -> None:
        self._stopping.set()
        self._watchers.end()
        if self._link is not None:
            self._link.cut()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_GRACE)
        await tasks.cancel(self._task)  # it was connecting
        await self._disconnect()
