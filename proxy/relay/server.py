"""The data listener: creates the protocol of each connection, keeps the connections, checks their deadlines.

It runs on aiohttp's ServerRunner (sites, sockets, orderly stop); nothing else of its Server is used. One
sweep every half second checks all deadlines: a timer for each request would cost more than the request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web

from proxy import tasks
from proxy.relay import problems
from proxy.relay.context import RelayContext
from proxy.relay.inbound import Inbound
from proxy.relay.problems import Refusal
from proxy.relay.runtime import RouteRuntime

SWEEP_EVERY: Final = 0.5  # seconds; precise enough for limits in seconds

_log = logging.getLogger("proxy.relay")


class RelayServer:
    """All connections of the data listeners, with the context that they share."""

    def __init__(self, context: RelayContext, runtimes: list[RouteRuntime]) -> None:
        self.context = context
        self.runtimes = runtimes
        self._connections: set[Inbound] = set()
        self._emptied = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._sweeper = tasks.spawn(self._sweep(), "sweep deadlines")

    def opened(self, connection: Inbound) -> None:
        self._connections.add(connection)
        if not self.context.descriptors.hold_another_caller():
            self._turn_away(connection)
        elif len(self._connections) > self.context.limits.connections:
            connection.turn_away(Refusal(problems.OVERLOADED, "too many connections", retry_after=1))
        elif self.context.draining:
            connection.drain()

    def _turn_away(self, connection: Inbound) -> None:
        refusal = Refusal(problems.OVERLOADED, "this proxy has too many open files", retry_after=1)
        if self.context.descriptors.refuse_another_caller():
            connection.turn_away(refusal)
        else:
            self.context.count_refused(refusal, routed=False)
            connection.abort()

    def closed(self, connection: Inbound) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._emptied.set()

    async def drain(self, seconds: float) -> None:
        """Let running exchanges end, for at most `seconds`; then abort the remaining connections."""
        self.context.draining = True
        for connection in list(self._connections):
            connection.drain()
        self._emptied.clear()
        try:
            if self._connections:
                await asyncio.wait_for(self._emptied.wait(), seconds)
        except TimeoutError:
            for connection in list(self._connections):
                connection.cut()

    async def close(self) -> None:
        """Abort the remaining connections, and close the upstream ones."""
        await tasks.cancel(self._sweeper)
        for connection in list(self._connections):
            connection.abort()
        for runtime in self.runtimes:
            runtime.close()
        self.context.log.flush()

    async def _sweep(self) -> None:
        """No exception ends this loop: all deadlines of the process depend on it."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            try:
                self._look(loop.time())
            except Exception as error:  # noqa: BLE001 (it must not end)
                _log.error("a sweep failed unexpectedly", exc_info=error)

    def _look(self, now: float) -> None:
        for connection in list(self._connections):
            try:
                connection.check(now)
            except Exception as error:  # noqa: BLE001 (whatever it is, it ends this connection and no other)
                self._abort(connection, error)
        for runtime in self.runtimes:
            runtime.close_idle(now - self.context.limits.upstream_idle)
        self.context.log.flush()
        # connections in their TLS handshake are not ours yet: only this logs that they use all descriptors
        self.context.descriptors.hold_another_caller()

    def _abort(self, connection: Inbound, error: Exception) -> None:
        """End a connection after an unexpected exception in its check."""
        _log.error("the check of a connection failed unexpectedly", exc_info=error)
        self.context.metrics.refused.labels(problems.INTERNAL_ERROR.ending).inc()
        connection.abort()


class Listener(web.Server):
    """The protocol factory that aiohttp's runner requires. RelayServer keeps and drains the connections."""

    def __init__(self, server: RelayServer, runtime: RouteRuntime | None) -> None:
        super().__init__(_never)
        self._relay = server
        self._own = runtime

    def __call__(self) -> Inbound:  # type: ignore[override]  # not aiohttp's protocol, on purpose
        return Inbound(self._relay, self._own)

    def pre_shutdown(self) -> None: ...

    async def shutdown(self, timeout: float | None = None) -> None: ...  # noqa: ASYNC109 (aiohttp's signature)


async def _never(_request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("unreachable")
