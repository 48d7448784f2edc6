"""The health listener: probes and metrics for any peer, and the end of the process for local ones.

GET, HEAD /metrics, /healthz, /readyz, /startupz     any Host; with server.health_accounts = false no accounts
POST      /quitquitquit                              with server.quit = true, from this machine or pod only

It has no secret, cookie, page or authentication, so it may listen anywhere. Web pages are refused: through a
browser in this network they could read the names of credentials and accounts.

Requests can't keep the event loop busy: see pace.py and scrapes.py.

It is the first listener to open and the last to close, for probes during a slow start and a drain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.registry import Collector

from proxy.admin import own_errors, peers
from proxy.admin.pace import Pace
from proxy.admin.probes import STARTING, Probes
from proxy.admin.scrapes import Scrapes, WithoutAccounts, wanted
from proxy.admin.server import AdminConnection, AdminRunner, Phase
from proxy.config.model import Config
from proxy.fd_limits import Descriptors
from proxy.relay.problems import BROWSER_REFUSED

METRICS: Final = "/metrics"
QUIT: Final = "/quitquitquit"
OF_PAGES: Final = ("Origin", "Sec-Fetch-Site")  # fields that no program sends
SHUTDOWN: Final = 0.5  # seconds for a response that is being sent when the process ends

_log = logging.getLogger("proxy.admin")


def health_runner(
    config: Config, probes: Probes, files: Descriptors, stop: asyncio.Event | None
) -> AdminRunner:
    """`stop`: set by /quitquitquit; None if that is not possible."""
    app = HealthPages(config, probes, stop).application()
    return AdminRunner(app, config.limits, files, listener="health", shutdown=SHUTDOWN)


class HealthPages:
    def __init__(self, config: Config, probes: Probes, stop: asyncio.Event | None) -> None:
        self._with_accounts = config.server.health_accounts
        self._probes = probes
        self._stop = stop if config.server.quit else None
        self._pace = Pace()
        self._scrapes = Scrapes(self._readings)
        self._pages: Mapping[str, Callable[[], web.Response]] = {
            "/healthz": probes.healthz,
            "/readyz": lambda: probes.readyz(with_accounts=self._with_accounts),
            "/startupz": probes.startupz,
        }

    def application(self) -> web.Application:
        @web.middleware
        async def respond(request: web.Request, handler: Handler) -> web.StreamResponse:  # noqa: ARG001
            return await self.respond(request)

        app = web.Application(middlewares=[respond])  # without routes: these have error pages of aiohttp's
        app.on_response_prepare.append(_add_headers)
        return app

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Raises ConnectionResetError if the peer has gone before its turn."""
        if not self._pace.take():
            with _connection(request).within(Phase.QUEUED):
                is_here = await self._pace.wait(lambda: request.transport is not None)
            if not is_here:
                raise ConnectionResetError
        if any(name in request.headers for name in OF_PAGES):
            if self._probes.health is not None:
                self._probes.health.refused.labels(BROWSER_REFUSED.ending).inc()
            return own_errors.plain(403, "Requests of web pages are refused here")
        path = request.path
        if path == QUIT and self._stop is not None:
            return _quit(request, self._stop)
        if path != METRICS and path not in self._pages:
            return own_errors.plain(404)
        if request.method not in {"GET", "HEAD"}:
            return own_errors.plain(405, allow="GET, HEAD")
        return await self._metrics(request) if path == METRICS else self._pages[path]()

    async def _metrics(self, request: web.Request) -> web.Response:
        if self._probes.health is None:
            return web.Response(status=503, text=STARTING)
        headers = request.headers
        form = wanted(",".join(headers.getall("Accept", [])), ",".join(headers.getall("Accept-Encoding", [])))
        with _connection(request).within(Phase.QUEUED):
            body = await self._scrapes.text(form)
        fields = {"Content-Type": form.content_type, "Vary": "Accept, Accept-Encoding"}
        if form.is_compressed:
            fields["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=fields)

    async def _readings(self) -> Collector:
        health = self._probes.health
        assert health is not None
        registry = await health.metrics()
        return registry if self._with_accounts else WithoutAccounts(registry)


def _quit(request: web.Request, stop: asyncio.Event) -> web.Response:
    if request.method != "POST":
        return own_errors.plain(405, allow="POST")
    if not _is_local(request):
        return own_errors.plain(403, "Only programs on this machine, or in this pod, may do that")
    if not stop.is_set():
        _log.info("stopping on POST %s", QUIT, extra={"event": "stop"})
        stop.set()
    return web.Response(text="stopping")


def _connection(request: web.Request) -> AdminConnection:
    assert isinstance(request.protocol, AdminConnection)
    return request.protocol


def _is_local(request: web.Request) -> bool:
    """Whether the peer's address is loopback, or it came by a unix socket."""
    if request.transport is None:  # it has gone
        return False
    address = peers.address_of(request.transport)
    return address is None or address.is_loopback


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """A signal handler."""
    for name, value in own_errors.HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.popall("Server", None)  # it has version numbers
