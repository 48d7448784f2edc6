"""Names of hosts -> addresses, by the system's resolver (hosts file, nsswitch, search domains).

The resolver blocks, for half a minute or longer if a name server does not respond. So:
- an address literal or a loopback name needs no look-up;
- each look-up has a thread of its own, shared by all callers that wait for the same name: a hanging name
  occupies one thread, regardless of their number;
- a timeout or a cancellation of a caller takes effect at once; the look-up goes on.

At most LOOKUPS names are looked up at once; others wait in order, within the timeouts of their callers.

Addresses are kept, as a look-up for each connection costs as much as the rest of opening it:

    age     up to REFRESH   up to FRESH                 up to KEPT                      older
            used            used, and looked up behind  look up; after PATIENCE, or a   look up
                                                        temporary failure: used

So a name that moves is followed within FRESH, and while look-ups hang or fail, the last good addresses serve.
A name that no longer exists is forgotten at once: that is an answer, no failure.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from proxy.clock import boot_seconds

LOOKUPS: Final = 64  # threads; more names than most configurations have, 8 MiB of address space each
# Seconds. getaddrinfo does not tell how long an answer is valid; name servers that move traffic by names say
# 5 to 60. Look-ups begin early, so that a connection of a busy route waits for none.
REFRESH: Final = 5.0
FRESH: Final = 10.0
PATIENCE: Final = 1.0  # as RFC 8767 section 5 advises (1.8), within limits.connect (5)
# RFC 8767 advises a day or more. But an address that an upstream gave up may be someone else's by then.
KEPT: Final = 3600.0
NAMES: Final = 1024  # whose addresses are kept; upstreams, egress proxies and authorization servers
_LOOPBACK: Final = ("127.0.0.1", "::1")
_NO_SUCH_NAME: Final = frozenset(  # codes of answers, where the others are failures to get one
    {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None), getattr(socket, "EAI_ADDRFAMILY", None)}
)

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]  # as of socket.getaddrinfo
Found = list[AddressInfo]


class _Kept:
    """The addresses of a name. Times are of the boot clock."""

    __slots__ = ("asked", "at", "found")

    def __init__(self, found: Found, now: float) -> None:
        self.found = found
        self.at = now
        self.asked = now  # when the last look-up ended, successful or not


class _Flight:
    """A look-up under way."""

    __slots__ = ("began", "result")

    def __init__(self, now: float) -> None:
        self.began = now
        self.result: Future[Found] = Future()
        self.result.set_running_or_notify_cancel()  # one caller's cancellation must not end it


class Resolver:
    """Looks names up in threads. For any event loop, and for several at once."""

    def __init__(
        self,
        getaddrinfo: Callable[..., Any] | None = None,
        lookups: int = LOOKUPS,
        now: Callable[[], float] = boot_seconds,
    ) -> None:
        """`now`: seconds of the boot clock, which goes on while the machine is suspended."""
        self._getaddrinfo = getaddrinfo
        self._free = lookups
        self._now = now
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight] = {}
        self._waiting: deque[str] = deque()  # names for which no thread is free
        self._kept: dict[str, _Kept] = {}  # the last looked up at the end

    async def addresses(self, host: str, port: int, age: float = FRESH) -> Found:
        """The addresses of `host` for a TCP connection. Raises socket.gaierror.

        They are older than `age` (seconds) only if a look-up hangs or fails.
        A loopback name (RFC 6761 section 6.3) is never looked up: it is 127.0.0.1, then ::1.
        """
        found = None if host in self._kept else without_lookup(host, port)
        if found is None:
            found = await self._named(host, age)
        return [(*info[:4], (info[4][0], port, *info[4][2:])) for info in found]

    async def _named(self, host: str, age: float) -> Found:
        now = self._now()
        with self._lock:
            kept = self._kept.get(host)
            if kept is not None and now - kept.at > KEPT:
                kept = None
            if kept is not None and now - kept.at <= min(age, REFRESH):
                return kept.found
            flight = self._flights.get(host)
            if flight is None and (kept is None or now - kept.asked > min(age, REFRESH)):
                flight = self._begin(host, now)
        if kept is None:
            assert flight is not None
            return await asyncio.wrap_future(flight.result)
        if flight is None or now - kept.at <= age:
            return kept.found
        return await _patiently(flight, kept, flight.began + PATIENCE - now)

    def _begin(self, host: str, now: float) -> _Flight:
        """With the lock held."""
        flight = self._flights[host] = _Flight(now)
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
            self._flights.pop(host).result.set_exception(socket.gaierror(socket.EAI_MEMORY, "no thread"))

    def _run(self, host: str) -> None:
        try:
            found = self._look_up(host)
        except BaseException as error:  # noqa: BLE001 (all errors are for the waiting callers)
            self._landed(host, error).set_exception(error)
        else:
            self._landed(host, found).set_result(found)

    def _landed(self, host: str, outcome: Found | BaseException) -> Future[Found]:
        with self._lock:
            self._keep(host, outcome)
            self._free += 1
            while self._waiting and self._free:
                self._start(self._waiting.popleft())
            return self._flights.pop(host).result

    def _keep(self, host: str, outcome: Found | BaseException) -> None:
        """With the lock held."""
        kept = self._kept.pop(host, None)
        if not isinstance(outcome, BaseException):
            kept = _Kept(outcome, self._now())
        elif kept is None or is_answer(outcome):
            return
        else:
            kept.asked = self._now()
        self._kept[host] = kept
        if len(self._kept) > NAMES:
            del self._kept[next(iter(self._kept))]

    def _look_up(self, host: str) -> Found:
        try:
            found = list((self._getaddrinfo or socket.getaddrinfo)(host, None, type=socket.SOCK_STREAM))
        except UnicodeError:  # a label is too long, or empty
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "a name without addresses")
        return found


async def _patiently(flight: _Flight, kept: _Kept, seconds: float) -> Found:
    """What a look-up finds if it does in time, else what is kept. Raises socket.gaierror: no such name."""
    if seconds <= 0:
        return kept.found
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(flight.result)
    except TimeoutError:
        return kept.found
    except OSError as error:
        if is_answer(error):
            raise
        return kept.found


def is_answer(error: BaseException) -> bool:
    """Whether a failed look-up says that the name has no address."""
    return isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME


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
