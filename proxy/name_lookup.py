"""Names of hosts -> addresses, by the system's resolver (hosts file, nsswitch, search domains).

The resolver blocks, for half a minute or longer if a name server does not respond. So:
- an address literal or a loopback name needs no look-up;
- each look-up has a thread of its own, shared by all callers that wait for the same name: a hanging name
  occupies one thread, regardless of their number;
- a timeout or a cancellation of a caller takes effect at once; the look-up goes on.

At most LOOKUPS names are looked up at once; others wait in order, within the timeouts of their callers.
Results are not cached: a name is looked up again for the next connection (issue 13 adds a cache here).
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

LOOKUPS: Final = 64  # threads; more names than most configurations have, 8 MiB of address space each
_LOOPBACK: Final = ("127.0.0.1", "::1")

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]  # as of socket.getaddrinfo
Found = list[AddressInfo]


class Resolver:
    """Looks names up in threads. For any event loop, and for several at once."""

    def __init__(self, getaddrinfo: Callable[..., Any] | None = None, lookups: int = LOOKUPS) -> None:
        self._getaddrinfo = getaddrinfo
        self._free = lookups
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Found]] = {}
        self._waiting: deque[str] = deque()  # names for which no thread is free

    async def addresses(self, host: str, port: int) -> Found:
        """The addresses of `host` for a TCP connection. Raises socket.gaierror.

        A loopback name (RFC 6761 section 6.3) is never looked up: it is 127.0.0.1, then ::1.
        """
        found = without_lookup(host, port)
        if found is None:
            found = await asyncio.wrap_future(self._flight(host))
        return [(*info[:4], (info[4][0], port, *info[4][2:])) for info in found]

    def _flight(self, host: str) -> Future[Found]:
        with self._lock:
            flight = self._flights.get(host)
            if flight is None:
                flight = self._flights[host] = Future()
                flight.set_running_or_notify_cancel()  # one caller's cancellation must not end it
                if self._free:
                    self._start(host)
                else:
                    self._waiting.append(host)
            return flight

    def _start(self, host: str) -> None:
        """With the lock held."""
        self._free -= 1
        # a daemon: a hanging look-up must not delay the exit of the process
        thread = threading.Thread(target=self._run, args=(host,), name=f"look up {host}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads
            self._free += 1
            self._flights.pop(host).set_exception(socket.gaierror(socket.EAI_MEMORY, "no thread"))

    def _run(self, host: str) -> None:
        try:
            found = self._look_up(host)
        except BaseException as error:  # noqa: BLE001 (all errors are for the waiting callers)
            self._landed(host).set_exception(error)
        else:
            self._landed(host).set_result(found)

    def _landed(self, host: str) -> Future[Found]:
        with self._lock:
            self._free += 1
            while self._waiting and self._free:
                self._start(self._waiting.popleft())
            return self._flights.pop(host)

    def _look_up(self, host: str) -> Found:
        try:
            return list((self._getaddrinfo or socket.getaddrinfo)(host, None, type=socket.SOCK_STREAM))
        except UnicodeError:  # a label is too long, or empty
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None


def without_lookup(host: str, port: int) -> Found | None:
    """The addresses of a literal (with or without a scope) or a loopback name; None for any other name."""
    if is_loopback_name(host):
        return [info for literal in _LOOPBACK for info in _literal(literal, port)]
    try:
        return _literal(host, port)
    except (socket.gaierror, UnicodeError):
        return None


def _literal(text: str, port: int) -> Found:
    return list(socket.getaddrinfo(text, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))


def is_loopback_name(host: str) -> bool:
    """RFC 6761 section 6.3."""
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


resolver: Final = Resolver()  # one per process, like its threads and the system's resolver
