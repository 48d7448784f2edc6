"""The data listener: creates the protocol of each connection, keeps the connections, checks their deadlines.

It runs on aiohttp's ServerRunner (sites, sockets, orderly stop); nothing else of its Server is used. One
sweep every half second checks all deadlines: a timer for each request would cost more than the request.

A reload gives it another context (`swap`). Each request belongs to the context that it began with, and the
next one on its connection to the new one.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import web

from proxy import tasks
from proxy.relay import decisions, problems
from proxy.relay.context import SHARED, RelayContext
from proxy.relay.exchange import Exchange
from proxy.relay.inbound import Inbound
from proxy.relay.problems import Refusal
from proxy.relay.runtime import RouteRuntime

SWEEP_EVERY: Final = 0.5  # seconds; precise enough for limits in seconds

_log = logging.getLogger("proxy.relay")


@dataclass(slots=True)
class _Leaving:
    """An exchange whose route or caller is no longer configured."""

    connection: Inbound
    exchange: Exchange
    until: float  # loop time
    refusal: Refusal


class RelayServer:
    """All connections of the data listeners, with the context that they share."""

    def __init__(self, context: RelayContext) -> None:
        self.context = context
        context.says_decisions = decisions.are_logged()
        self._named: dict[str, RouteRuntime] = {}
        self._former: list[RouteRuntime] = []  # of earlier contexts, with requests in flight
        self._leaving: list[_Leaving] = []
        self._connections: set[Inbound] = set()
        self._emptied = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self._show()

    @property
    def runtimes(self) -> list[RouteRuntime]:
        return self.context.runtimes

    def start(self) -> None:
        self._sweeper = tasks.spawn(self._sweep(), "sweep deadlines")

    # -- reload

    def swap(self, context: RelayContext) -> None:
        """Serve under another context from the next request on. Can't fail: nothing here may raise."""
        context.says_decisions = decisions.are_logged()
        before, self.context = self.context, context
        kept = set(context.runtimes)
        former = [runtime for runtime in before.runtimes if runtime not in kept]
        for runtime in former:
            runtime.retire()
        self._former += former
        self._show()
        self._let_go(before)

    def _let_go(self, before: RelayContext) -> None:
        """End what has no route, caller or listener any more, after `limits.shutdown`."""
        context, now = self.context, asyncio.get_running_loop().time()
        routes = _routes(before) - _routes(context)
        callers = _callers(before) - _callers(context)
        for connection in list(self._connections):
            exchange = connection.exchange
            if exchange is not None and (exchange.route in routes or exchange.caller in callers):
                case = problems.NO_ROUTE if exchange.route in routes else problems.CALLER_UNKNOWN
                refusal = Refusal(
                    case, "the configuration was changed meanwhile, and no longer has this route or caller"
                )
                until = now + context.limits.shutdown
                self._leaving.append(_Leaving(connection, exchange, until, refusal))
            if connection.listener != SHARED and context.is_closed(connection.listener):
                connection.drain()

    def _cut(self, now: float) -> None:
        """End the exchanges whose time is over."""
        for leaving in self._leaving:
            if now >= leaving.until and leaving.connection.exchange is leaving.exchange:
                leaving.exchange.cut(leaving.refusal)
        self._leaving = [
            each for each in self._leaving if now < each.until and each.connection.exchange is each.exchange
        ]

    def _forget_former(self) -> None:
        """Forget routes of earlier contexts whose last request has ended."""
        for runtime in self._former:
            if not runtime.requests:
                runtime.close()
        self._former = [runtime for runtime in self._former if runtime.requests]

    # -- metrics of routes, under all contexts

    def _show(self) -> None:
        metrics = self.context.metrics
        before, self._named = self._named, {each.route.name: each for each in self.context.runtimes}
        for name in self._named.keys() - before.keys():
            metrics.requests_in_flight.labels(name).set_function(partial(self._in_flight, name))
            connections = metrics.upstream_connections
            connections.labels(name, "idle").set_function(partial(self._idle, name))
            connections.labels(name, "active").set_function(partial(self._active, name))
            metrics.upstream_queued.labels(name).set_function(partial(self._queued, name))

    def _all(self, route: str) -> list[RouteRuntime]:
        current = self._named.get(route)
        former = [each for each in self._former if each.route.name == route]
        return former if current is None else [current, *former]

    def _in_flight(self, route: str) -> float:
        return sum(each.requests for each in self._all(route))

    def _idle(self, route: str) -> float:
        return sum(each.idle for each in self._all(route))

    def _active(self, route: str) -> float:
        return sum(each.active for each in self._all(route))

    def _queued(self, route: str) -> float:
        return sum(each.queued for each in self._all(route))

    # -- connections

    def opened(self, connection: Inbound) -> None:
        self._connections.add(connection)
        if not self.context.descriptors.hold_caller(connection.descriptor):
            self._turn_away(connection)
        elif len(self._connections) > self.context.limits.connections:
            connection.turn_away(Refusal(problems.OVERLOADED, problems.FULL, retry_after=1))
        elif self.context.draining:
            connection.drain()

    def _turn_away(self, connection: Inbound) -> None:
        refusal = Refusal(problems.OVERLOADED, problems.NO_FILES, retry_after=1)
        if self.context.descriptors.refuse_caller(connection.descriptor):
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
        for runtime in (*self.context.runtimes, *self._former):
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
        for runtime in (*self.context.runtimes, *self._former):
            runtime.look(now)
        if self._leaving:
            self._cut(now)
        if self._former:
            self._forget_former()
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

    def __init__(self, server: RelayServer, number: int = SHARED) -> None:
        """`number`: of the listener of a route of its own (RelayContext.own)."""
        super().__init__(_never)
        self._relay = server
        self._number = number

    def __call__(self) -> Inbound:  # type: ignore[override]  # not aiohttp's protocol, on purpose
        return Inbound(self._relay, self._number)

    def pre_shutdown(self) -> None: ...

    async def shutdown(self, timeout: float | None = None) -> None: ...  # noqa: ASYNC109 (aiohttp's signature)


def _routes(context: RelayContext) -> set[str]:
    return {runtime.route.name for runtime in context.runtimes}


def _callers(context: RelayContext) -> set[str]:
    return set(context.callers.names) if context.callers is not None else set()


async def _never(_request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("unreachable")
