"""The status page as a stream: one rendering for all its subscribers, at most one a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiohttp import web

from proxy import tasks
from proxy.admin.live import Streams, event
from proxy.admin.sessions import WaysIn
from proxy.clock import Clock
from proxy.observe.query import Query
from proxy.tokens.changes import Changes

EVERY: Final = 1.0  # seconds between two renderings of one view
RENDER: Final = "render a live page"  # in internal_errors_total


class Seen(NamedTuple):
    """All that the page depends on."""

    query: Query
    ways_in: WaysIn | None


Render = Callable[[Seen], Awaitable[str]]


class StatusFeed:
    def __init__(
        self, streams: Streams, changes: Callable[[], Changes], clock: Clock, render: Render
    ) -> None:
        """`changes`: a reload replaces them. `render`: the element `main` of the page."""
        self._streams = streams
        self._changes = changes
        self._clock = clock
        self._render = render
        self._channels: dict[Seen, Channel] = {}

    async def stream(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        async with self._joined(seen) as channel:
            number = 0

            async def following() -> bytes:
                nonlocal number
                number, text = await channel.after(number)
                return event("page", f"{self._clock.wall():.3f}\n{text}")

            return await self._streams.send(request, following)

    @asynccontextmanager
    async def _joined(self, seen: Seen) -> AsyncIterator[Channel]:
        channel = self._channels.get(seen)
        if channel is None:
            channel = self._channels[seen] = Channel(lambda: self._render(seen), self._changes())
        channel.subscribers += 1
        try:
            yield channel
        finally:
            channel.subscribers -= 1
            if not channel.subscribers:
                del self._channels[seen]
                await channel.close()


class Channel:
    """One rendering for all of its subscribers."""

    def __init__(self, render: Callable[[], Awaitable[str]], changes: Changes) -> None:
        self.subscribers = 0
        self._render = render
        self._changed = changes.subscribe()
        self._text = ""
        self._number = 0
        self._news = asyncio.Event()
        self._task = tasks.forever(RENDER, self._step)

    async def close(self) -> None:
        await tasks.cancel(self._task)

    async def after(self, number: int) -> tuple[int, str]:
        """Wait for a later rendering than this one. May be cancelled."""
        while self._number <= number:
            if self._news.is_set():
                self._news = asyncio.Event()
            await self._news.wait()
        return self._number, self._text

    async def _step(self) -> None:
        self._changed.take()
        self._text = await self._render()
        self._number += 1
        self._news.set()
        await asyncio.sleep(EVERY)
        await self._changed.wait()
