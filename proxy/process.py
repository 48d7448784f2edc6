"""One process: listen, serve, drain.

start: store → tokens → admin listener → data listeners → ready
stop:  not ready → data listeners closed → requests in flight end → refreshes are saved → the rest
"""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Final, NamedTuple

from aiohttp import web

from proxy import caller_keys, tasks
from proxy.admin import control
from proxy.admin.app import admin_application
from proxy.admin.base_urls import Listening
from proxy.admin.server import AdminRunner
from proxy.config.address import Address
from proxy.config.model import Config, ListenerTLS, Route, UpstreamTLS
from proxy.errors import ConfigError, Fault
from proxy.fd_limits import Descriptors
from proxy.hosts import Hosts
from proxy.http.message import HeadLimits
from proxy.listen import CannotListen, bound_address, check_parser, close, listen, stop
from proxy.observe import logs
from proxy.observe.health import Health
from proxy.relay.callers import CallerTable
from proxy.relay.context import RelayContext
from proxy.relay.dial import tls_context
from proxy.relay.runtime import RouteRuntime
from proxy.relay.server import Listener, RelayServer
from proxy.reserve import ReserveGate
from proxy.routes import RouteTable
from proxy.services import Services, open_services
from proxy.store.open import weaknesses

SAVE_GRACE: Final = 3.0  # seconds at least, for a refresh to be saved; with limits.shutdown still below 30
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 (no names by which anything is reached)
SAME_SIGNAL: Final = 0.3  # seconds; a supervisor may send a signal twice: to the group and to each process

_log = logging.getLogger("proxy.process")
Place = tuple[web.BaseRunner, Address, ListenerTLS | None]


class Server(NamedTuple):
    """What serves."""

    services: Services
    health: Health
    listening: list[Listening]
    has_page: bool  # whether there is an admin listener


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[Services]:
    """As `server`, with an admin listener."""
    async with server(config) as served:
        yield served.services


@asynccontextmanager
async def server(config: Config, *, page_required: bool = True) -> AsyncIterator[Server]:
    """Serve for the length of the block, then drain. Raises StoreError, CannotListen, ConfigError.

    `page_required`: False to go without an admin listener if its address is taken.
    """
    asyncio.get_running_loop().set_exception_handler(logs.on_loop_exception)
    check_parser()
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(open_services(config))
        for sentence in await weaknesses(config.store.url.reveal()):
            _log.warning("%s", sentence)
        hosts = Hosts(own_names(config))
        relay = await _relay(services, hosts)
        stack.push_async_callback(relay.close)
        await services.tokens.start()
        health = Health(services)
        pages = admin_application(services, hosts, health)
        runner = AdminRunner(pages, config.limits, relay.context.descriptors)
        admin = runner, config.server.admin, config.admin_listener_tls
        handshake, ports = config.limits.header_time, relay.context.ports
        has_page = await _start_page(stack, admin, config, ports, required=page_required)
        sites, listening = [], []
        for route, place in _data_listeners(config, relay):
            site = await _start(stack, place, handshake, ports)
            sites.append(site)
            listening.append(Listening(bound_address(site, place[1]), place[2], route))
        relay.start()
        scheduler = tasks.spawn(services.tokens.scheduler.run(), "keep tokens fresh")
        stack.push_async_callback(tasks.cancel, scheduler)
        reporter = tasks.spawn(services.tokens.report_logins(), "report due logins")
        stack.push_async_callback(tasks.cancel, reporter)
        _log.info("token-proxy is ready", extra={"event": "start", "version": version("token-proxy")})
        yield Server(services, health, listening, has_page)
        health.draining = True
        await tasks.cancel(scheduler)  # a refresh that starts now would not end in time
        await stop(*sites)
        began = services.clock.boot()
        await relay.drain(config.limits.shutdown)
        left = config.limits.shutdown - (services.clock.boot() - began)
        await services.tokens.close(max(left, SAVE_GRACE))
    _log.info("stopped", extra={"event": "stop"})


@asynccontextmanager
async def controlled(server: Server) -> AsyncIterator[None]:
    """Have the control socket within the block, if possible."""
    config = server.services.config
    app = control.control_application(lambda: describe(server), lambda: server.health)
    async with control.offered(config.server.state_dir, app):
        yield


def describe(server: Server) -> control.ServerEntry:
    config = server.services.config
    return control.server_entry(config, server.listening, own_names(config), server.health.hints())


def own_names(config: Config) -> Iterator[str]:
    """The accepted values of Host, besides loopback."""
    yield from config.server.allowed_hosts
    yield config.public_host
    listeners = [*config.server.listen, config.server.admin, *(route.listen for route in config.routes)]
    yield from (
        address.host for address in listeners if address is not None and address.host not in EVERYWHERE
    )
    yield from (route.host for route in config.routes if route.host)


async def relay_of(services: Services) -> RelayServer:
    """The data path without listeners, for `explain`. Raises ConfigError."""
    return await _relay(services, Hosts(own_names(services.config)))


async def _relay(services: Services, hosts: Hosts) -> RelayServer:
    config, limits = services.config, services.config.limits
    contexts = await _tls_contexts(config)
    runtimes = [
        RouteRuntime(
            route, limits, services.tokens, services.metrics, contexts[route.tls] if _is_tls(route) else None
        )
        for route in config.routes
    ]
    callers = _callers(services)
    context = RelayContext(
        limits=limits,
        head_limits=HeadLimits(
            limits.header_size, limits.field_size, limits.fields, callers.keys if callers else None
        ),
        hosts=hosts,
        table=RouteTable(runtime for runtime in runtimes if runtime.route.listen is None),
        tokens=services.tokens,
        metrics=services.metrics,
        log=logs.RequestLog(config.log),
        via=b"token-proxy-" + (await services.store.identity()).encode("ascii"),
        public_url=config.public_url,
        callers=callers,
        descriptors=Descriptors(admin=limits.admin_connections),
    )
    return RelayServer(context, runtimes)


def _callers(services: Services) -> CallerTable | None:
    """None where everyone may use everything."""
    config = services.config
    if not config.callers and not config.server.anyone:
        return None
    signing_key = services.store.derive(caller_keys.PURPOSE)
    table = CallerTable(config.callers.values(), config.server.anyone, signing_key, services.clock.wall)
    if config.callers:
        services.metrics.caller_requests.show()
        table.count_in(services.metrics.caller_requests)
    return table


def _is_tls(route: Route) -> bool:
    return route.upstream.scheme == "https"


async def _tls_contexts(config: Config) -> dict[UpstreamTLS | None, ssl.SSLContext]:
    """One for all routes with the same `tls`: most have none, and share a trust store. Raises ConfigError."""
    contexts: dict[UpstreamTLS | None, ssl.SSLContext] = {}
    for route in config.routes:
        if not _is_tls(route) or route.tls in contexts:
            continue
        try:
            contexts[route.tls] = await asyncio.to_thread(tls_context, route.tls)
        except OSError as error:
            fault = Fault(1, 1, f"the TLS files of route {route.name!r} can't be used - check its `tls`")
            raise ConfigError(config.place, [fault]) from error
    return contexts


def _data_listeners(config: Config, relay: RelayServer) -> Iterator[tuple[str | None, Place]]:
    """With the name of the route that has a listener of its own."""
    for address in config.server.listen:
        yield None, _data_place(relay, None, address, config)
    for runtime in relay.runtimes:
        if runtime.route.listen is not None:
            yield runtime.route.name, _data_place(relay, runtime, runtime.route.listen, config)


def _data_place(relay: RelayServer, own: RouteRuntime | None, address: Address, config: Config) -> Place:
    listener, tls = Listener(relay, own), config.listener_tls(address)
    files = relay.context.descriptors
    server = ReserveGate(listener, files) if tls or files.are_few else listener
    return web.ServerRunner(server), address, tls


async def _start_page(
    stack: AsyncExitStack, place: Place, config: Config, ports: set[int], *, required: bool
) -> bool:
    """Whether there is an admin listener now. Raises CannotListen if it is required."""
    try:
        await _start(stack, place, config.limits.admin_header_time, ports)
    except CannotListen:
        if required:
            raise
        return False
    return True


async def _start(
    stack: AsyncExitStack,
    place: Place,
    handshake: float,
    ports: set[int],
) -> web.BaseSite:
    """Listen there, and add the port to `ports`."""
    runner, address, tls = place
    await runner.setup()
    stack.push_async_callback(close, runner)
    site = await listen(runner, address, tls, handshake=handshake)
    bound = bound_address(site, address)
    if not bound.is_unix:
        ports.add(bound.port)
    where = str(bound)
    _log.info("listening on %s", where, extra={"event": "listen", "listen": where})
    return site


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT stop gracefully; a second one, later than SAME_SIGNAL, ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            return
        _log.info("stopping on %s", number.name, extra={"event": "stop", "signal": number.name})
        stop.set()
        loop.call_later(SAME_SIGNAL, _die_of_signals, loop)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)


def _die_of_signals(loop: asyncio.AbstractEventLoop) -> None:
    for number in STOP_SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
