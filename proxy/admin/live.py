"""Streams of events (Server-Sent Events, HTML section 9.2): pages that stay up to date.

    event: page    the time (Unix seconds), and behind it `main` of the page
    event: end     the last page, as HTML: there is nothing more to wait for

A visitor has at most MOST_OF_VISITOR streams, as a browser opens no more than 6 connections. At the limit of
connections a stream makes room for a request, like an idle connection (server.py). All streams end with their
configuration; browsers then connect again by themselves.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from proxy import tasks
from proxy.admin import access, own_errors
from proxy.admin.peer_group import LOOPBACK, group_of
from proxy.admin.server import AdminConnection, Phase

MOST: Final = 100  # streams in all
MOST_OF_PEER: Final = (
    50  # of a user of this machine or an address, as a program can make up any number of cookies
)
MOST_OF_VISITOR: Final = 4
HEARTBEAT: Final = 25.0  # seconds; proxies in front close a connection that is silent for 60
LONGEST: Final = 900.0  # seconds; then the browser connects again, and its access is checked again
AGAIN: Final = 2000  # ms until it does
HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",  # nginx would collect the events
}

# The next event, as bytes; None: there will be no more. May be cancelled at any time, and loses nothing then.
Following = Callable[[], Awaitable[bytes | None]]


class Streams:
    """The open streams of one configuration."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()  # by visitor: a browser, or a peer without a cookie
        self._by_peer: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def close(self) -> None:
        """End all of them. Later ones end at once, so that browsers try again."""
        self._is_closed = True
        for each in self._running:
            each.cancel()

    async def send(self, request: web.Request, following: Following) -> web.StreamResponse:
        """Send events until there are no more, or the connection ends."""
        peer = f"peer {_peer(request)}"
        visitor = access.browser_of(request) or peer
        if not self._has_room(visitor, peer):
            return own_errors.plain(429, "Too many pages are kept up to date. Close one of them")
        connection = request.protocol
        assert isinstance(connection, AdminConnection)
        response = web.StreamResponse(headers=HEADERS)
        with self._counted(visitor, peer), connection.within(Phase.STREAM):
            await response.prepare(request)
            await response.write(b"retry: %d\n\n" % AGAIN)
            if not self._is_closed:
                await self._run(response, following)
        return response

    def _has_room(self, visitor: str, peer: str) -> bool:
        of_peer = self._by_peer[peer]
        return (
            self._open[visitor] < MOST_OF_VISITOR and of_peer < MOST_OF_PEER and self._by_peer.total() < MOST
        )

    async def _run(self, response: web.StreamResponse, following: Following) -> None:
        """In a task of its own: `close` ends that, and not the connection."""
        running = tasks.spawn(_pump(response, following), "send a page's events")
        self._running.add(running)
        try:
            await asyncio.wait({running})
        finally:
            self._running.discard(running)
            await tasks.cancel(running)

    @contextmanager
    def _counted(self, visitor: str, peer: str) -> Iterator[None]:
        self._open[visitor] += 1
        self._by_peer[peer] += 1
        try:
            yield
        finally:
            self._open -= Counter([visitor])  # which forgets those that have none
            self._by_peer -= Counter([peer])


STREAMS: Final = web.AppKey("streams", Streams)


async def _pump(response: web.StreamResponse, following: Following) -> None:
    deadline = asyncio.get_running_loop().time() + LONGEST
    try:
        while asyncio.get_running_loop().time() < deadline:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    text = await following()
            except TimeoutError:
                await response.write(b":\n\n")
                continue
            if text is None:
                return
            await response.write(text)
    except ConnectionError:
        return  # the browser has gone


def event(name: str, text: str) -> bytes:
    """An event; `text` may have any number of lines."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join([f"event: {name}", *(f"data: {line}" for line in lines), "", ""]).encode()


def _peer(request: web.Request) -> str:
    sock = request.transport.get_extra_info("socket") if request.transport else None
    return LOOPBACK if sock is None else group_of(sock)
