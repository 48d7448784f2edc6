"""Pools with real connections (socket pairs), a clock that only the test advances, and dials that it decides.

A caller sends a request with its own name, and the other end of each connection keeps what it reads: so a
connection that went to the wrong caller is seen, and a request that was sent twice.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from proxy import tasks
from proxy.config.address import read_upstream
from proxy.config.model import Limits, Route
from proxy.failure_causes import CONNECT_TIMEOUT, REFUSED
from proxy.fd_limits import Descriptors
from proxy.http.message import HeadLimits
from proxy.relay import problems, upstream_causes
from proxy.relay.dialer import Dialer
from proxy.relay.idle import IdleConnections
from proxy.relay.pool import Pool
from proxy.relay.problems import Refusal
from proxy.relay.wire import Wire

from .exchange_machine import Loop

HEADS = HeadLimits(131072, 32768, 200)
TURNS = 8  # of the loop, enough for all pending callbacks
ROUTE = Route(name="up", path="/", upstream=read_upstream("http://127.0.0.1:9"), credential="cred")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
REFUSES = upstream_causes.refusal(problems.UNREACHABLE, REFUSED, ROUTE)


class Files(Descriptors):
    """At most `most` connections to upstreams may be open."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.most = 1_000_000
        self.refusals = 0
        self._stage = stage

    def can_hold_another_upstream(self) -> bool:
        return len(self._stage.open_ends()) < self.most

    def hold_another_upstream(self) -> bool:
        if self.can_hold_another_upstream():
            return True
        self.refusals += 1
        return False


class Dial:
    """A dial under way. `owner`: of the pool, if the test has named it."""

    def __init__(self, stage: Stage, owner: str) -> None:
        self._stage, self.owner = stage, owner
        self._outcome: asyncio.Future[Wire] = asyncio.get_running_loop().create_future()

    async def outcome(self, seconds: float) -> Wire:
        try:
            async with asyncio.timeout(seconds if self._stage.dials_time_out else None):
                return await self._outcome
        except TimeoutError as error:
            raise upstream_causes.refusal(problems.CONNECT_TIMEOUT, CONNECT_TIMEOUT, ROUTE) from error
        finally:
            self._stage.dials.remove(self)

    def succeed(self) -> End:
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
        end = End(theirs)
        self._stage.ends.append(end)
        self._outcome.set_result(Wire(ours))
        self._stage.turn()
        return end

    def fail(self, error: Exception = REFUSES) -> None:
        error.__traceback__ = None  # of the last time: it would grow
        self._outcome.set_exception(error)
        self._stage.turn()


class End:
    """The upstream's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.asked: list[str] = []  # the names in the requests
        self.is_closed = False  # by the pool

    def read(self) -> None:
        while not self.is_closed and self.sock.fileno() >= 0:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.is_closed = not data
            for head in data.split(b"\r\n\r\n")[:-1]:
                self.asked.append(head.split(b"\r\n")[0].split(b" ")[1].decode())

    def say(self, data: bytes) -> None:
        with suppress(OSError):
            self.sock.send(data)

    def end(self) -> None:
        self.sock.close()


class Caller:
    """A request: what pool_queue.Waiter and interfaces.ResponseHandler ask of it."""

    upgrades = False

    def __init__(self, name: str, *, once: bool = False) -> None:
        self.name, self._once = name, once
        self.outcome: object = None  # the connection, or a Refusal
        self.upstream: Any = None  # the connection, while it is ours
        self.answered = False
        self.failed: object = None

    def connected(self, upstream: Any) -> None:
        assert self.outcome is None, "served twice"
        self.outcome = self.upstream = upstream
        upstream.start(self, b"GET", f"GET {self.name} HTTP/1.1\r\n\r\n".encode())

    def not_connected(self, refusal: Refusal) -> None:
        assert self.outcome is None, "served twice"
        self.outcome = refusal

    def is_sent_once(self) -> bool:
        return self._once

    def response_head(self, head: Any) -> None: ...

    def response_data(self, payload: bytes) -> None: ...

    def response_end(self, payload: bytes, body: Any) -> None:
        self.upstream, self.answered = None, True

    def upstream_failed(self, failure: object, cause: object) -> None:
        self.upstream, self.failed = None, failure

    def fail(self, error: Exception) -> None:
        raise error

    def leave(self, pool: Pool) -> None:
        """As lifecycle._finish."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.close()
        else:
            pool.leave(self)


class Stage:
    def __init__(self, **limits: float) -> None:
        self.loop = Loop()
        self.limits = Limits(**{"connect": 5.0, "upstream_idle": 55.0, **limits})  # type: ignore[arg-type]
        self.files = Files(self)
        self.idle = IdleConnections(self.files)
        self.dials: list[Dial] = []
        self.dials_time_out = True
        self.ends: list[End] = []

    def open_ends(self) -> list[End]:
        """The connections that the pools have not closed."""
        for end in self.ends:
            end.read()
        return [end for end in self.ends if not end.is_closed]

    def pool(self, owner: str = "") -> Pool:
        async def dials(_route: Route, _tls: object, seconds: float, _sessions: object) -> Wire:
            dial = Dial(self, owner)
            self.dials.append(dial)
            return await dial.outcome(seconds)

        return Pool(Dialer(ROUTE, None, self.limits, HEADS, self.idle, dials))

    def run(self, act: Any) -> Any:
        """`act` inside the loop, then all that follows from it."""

        async def acts() -> Any:
            return act()

        result = self.loop.run_until_complete(acts())
        self.turn()
        return result

    def turn(self) -> None:
        async def turns() -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        for end in self.ends:
            end.read()

    def ask(self, pool: Pool, name: str, *, once: bool = False, only_new: bool = False) -> Caller:
        """As connecting.Connecting."""
        caller = Caller(name, once=once)

        def asks() -> None:
            upstream = None if only_new else pool.take_alive() if once else pool.take()
            if upstream is not None:
                caller.connected(upstream)
            else:
                pool.wait(caller, only_new=only_new)

        self.run(asks)
        return caller

    def answer(self, end: End, data: bytes = OK) -> None:
        end.say(data)
        self.turn()

    def close(self, *pools: Pool) -> None:
        for pool in pools:
            self.run(pool.close)
        for end in self.ends:
            assert end.is_closed or end.sock.fileno() < 0, "a connection is lost"
            end.sock.close()
        assert not self.dials, "a dial goes on"
        left = {task.get_name() for task in tasks._running}
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        assert not left

    def age(self, seconds: float, *pools: Pool, step: float = 0.5) -> None:
        """Let time pass, with a sweep after each step."""
        until = self.loop.now + seconds
        while self.loop.now < until:
            self.loop.now = min(until, self.loop.now + step)
            self.turn()
            for pool in pools:
                self.run(lambda pool=pool: pool.look(self.loop.now))


@contextmanager
def staged(**limits: float) -> Iterator[SimpleNamespace]:
    """A stage with one pool, which is closed in the end."""
    stage = Stage(**limits)
    pool = stage.pool()
    yield SimpleNamespace(stage=stage, pool=pool)
    stage.close(pool)
