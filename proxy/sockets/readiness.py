"""Sockets that one epoll watches, itself watched by the event loop.

Level-triggered: an event that was not used up is reported again. An event may be out of date, as an earlier
one of the same turn may have closed its socket, and another one may have its number: reading must not rely
on it.
"""

from __future__ import annotations

import asyncio
import logging
import select
from typing import Final

AVAILABLE: Final = hasattr(select, "epoll")  # Linux; elsewhere the event loop's transports are used
READ: Final = 1  # EPOLLIN
WRITE: Final = 4  # EPOLLOUT; errors (8) and hang-ups (16) are reported without being asked for
PER_TURN: Final = 64  # events handled before the event loop sees to the connections to upstreams

_log = logging.getLogger("proxy.sockets")


class Watched:
    """The handler of a socket's events."""

    def ready(self, events: int) -> None:
        """`events`: flags as of epoll, not only those asked for."""
        raise NotImplementedError

    def failed(self) -> None:
        """`ready` has raised an exception, which has been logged."""
        raise NotImplementedError

    def ended(self) -> None:
        """Called once after `Readiness.end`, in a later turn of the loop."""
        raise NotImplementedError


class Readiness:
    """The epoll of a listener. It outlives its listener until the last connection has ended."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._number = self._epoll.fileno()
        self._watched: dict[int, Watched] = {}
        self._ending: list[Watched] = []
        self._retired = False
        self._loop.add_reader(self._number, self._dispatch)

    def begin(self, number: int, watched: Watched) -> None:
        """Watch a socket, for reading. Raises OSError."""
        self._epoll.register(number, READ)
        self._watched[number] = watched

    def change(self, number: int, before: int, after: int) -> None:
        """Watch for other events. None: not even errors are reported. Can't fail but for want of memory."""
        if not after:
            self._epoll.unregister(number)
        elif before:
            self._epoll.modify(number, after)
        else:
            self._epoll.register(number, after)

    def end(self, number: int, watched: Watched) -> None:
        """Forget a socket, which its owner closes in `ended`."""
        del self._watched[number]
        if not self._ending:
            self._loop.call_soon(self._end)
        self._ending.append(watched)

    def retire(self) -> None:
        """Close the epoll once there is no socket left."""
        self._retired = True
        self._close_unused()

    def _dispatch(self) -> None:
        watched = self._watched
        for number, events in self._epoll.poll(0, PER_TURN):
            handler = watched.get(number)
            if handler is None:
                continue
            try:
                handler.ready(events)
            except Exception as error:  # noqa: BLE001 (whatever it is, it ends this socket and no other)
                _log.error("a connection failed unexpectedly", exc_info=error)
                handler.failed()

    def _end(self) -> None:
        ending, self._ending = self._ending, []
        for watched in ending:
            try:
                watched.ended()
            except Exception as error:  # noqa: BLE001 (likewise)
                _log.error("the end of a connection failed unexpectedly", exc_info=error)
        self._close_unused()

    def _close_unused(self) -> None:
        if self._retired and not self._watched and not self._ending and not self._epoll.closed:
            self._loop.remove_reader(self._number)
            self._epoll.close()
