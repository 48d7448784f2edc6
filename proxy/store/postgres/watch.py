"""Polls a PostgreSQL store on a connection of its own: for puts, and for the health of the server.

Puts: the table is queried four times a second, and at once after a notification (LISTEN). Each record holds
the id of the transaction that put it; each query ("look") also returns the server's snapshot. A put that the
previous snapshot does not show is new, however late its transaction became visible: no commit is missed
between two looks. Through a pgbouncer in transaction mode no notifications arrive; polling is enough.

Health of the server: an expired lease may be taken over only if its holder had the chance to renew it. So
it takes the full length of a lease without a gap between looks, by the server's clock, and the statement
that takes the lease over must run soon after the last look. A restart, a lost connection, a suspended
server and a changed clock each start that time anew. This only delays the takeover of leases whose holder
may be alive: a holder can always renew, and leases that were released, or whose holder is known to be dead,
are available at once.
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
from proxy.observe.events import ERROR, event
from proxy.store.base import AccountId
from proxy.store.postgres import statements
from proxy.store.postgres.link import Link, Server
from proxy.store.watchers import Watchers

LOOK_EVERY: Final = 0.25  # seconds
_BREATH: Final = 0.02  # seconds; collects puts that arrive together into one look
_LONGEST_GAP: Final = 1.0  # seconds; a holder renews once a second, so a gap hides at most one renewal
_LONGEST_PAUSE: Final = 1.0  # seconds between attempts to reconnect
_GRACE: Final = 1.0  # seconds for a look to finish when the store is closed

_log = logging.getLogger("proxy.store")


@dataclass
class Steadiness:
    """How long the server has responded without a gap, by its own clock (Unix seconds)."""

    since: float = inf
    last: float = -inf

    def answered(self, at: float, *, unbroken: bool) -> None:
        if not unbroken or not 0 <= at - self.last <= _LONGEST_GAP:
            self.since = at
        self.last = at

    def window(self, seconds: float) -> tuple[float, float]:
        """From when until when an expired lease of `seconds` may be taken over."""
        return self.since + seconds, self.last + _LONGEST_GAP


class Watch:
    """Create it with `start`."""

    def __init__(self, server: Server, link: Link, schema: str) -> None:
        self.steady = Steadiness()
        self._server = server
        self._link: Link | None = link
        self._pause = LOOK_EVERY
        self._schema = schema
        self._seen: str | None = None  # the snapshot of the last look
        self._server_started: float | None = (
            None  # Unix seconds; None after connecting: any record may have changed
        )
        self._watchers = Watchers()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, server: Server, link: Link, schema: str) -> Self:
        """Return after the first look. Raises StoreError; then the link still belongs to the caller."""
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
                sentence = f"changes by other processes can't be seen now: {error}"
                event(_log, ERROR, "store_unreadable", sentence)
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
        await tasks.cancel(self._task)  # in case it is still connecting
        await self._disconnect()
