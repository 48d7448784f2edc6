"""A serving process: what outlives a reload, and its life from start to stop.

start:  health listener → store → tokens → admin listener → data listeners → ready
reload: all that is new is made, and may fail → one swap → what is gone ends
stop:   not ready → data listeners closed → requests in flight end → refreshes are saved → the rest

As long as the process live: the clock, metrics and log; the store; the token manager with its accounts, their
back-offs and refreshes under way; the listeners of [server] and all open connections; the limit of open
files; `Health`. Everything else is of one generation (generation.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from proxy import generation, tasks
from proxy.admin import control
from proxy.admin.base_urls import listening
from proxy.admin.health_listener import health_runner
from proxy.admin.probes import Probes
from proxy.admin.server import AdminServer
from proxy.admin.summary import Summary, summarize
from proxy.adopted import Adopted
from proxy.config.load import Loaded
from proxy.config.model import AuthorizationServerTLS, Config, ListenerTLS
from proxy.control_socket import ServerEntry
from proxy.errors import ConfigError, StoreError
from proxy.fd_limits import Descriptors
from proxy.generation import Parts, Shared
from proxy.hooks import Hooks, call
from proxy.listen import CannotListen, check_parser
from proxy.listeners import Listeners, Place, places_of_all, places_of_routes
from proxy.observe import logs
from proxy.observe.audit import AuditMetrics
from proxy.observe.audit_file import CLOSE_TIME
from proxy.observe.events import WARNING, event
from proxy.observe.health import Health
from proxy.observe.metrics import PREFIX
from proxy.relay import problems
from proxy.relay.context import SHARED, Lasting, RelayContext
from proxy.relay.server import Listener, RelayServer
from proxy.reserve import ReserveGate
from proxy.services import Services, open_services
from proxy.store.open import weaknesses
from proxy.tls_material import Material, gather, needed
from proxy.tokens.accounts import Accounts
from proxy.tokens.saved.lasting import store_warning

SAVE_GRACE: Final = 3.0  # seconds at least, for a refresh to be saved; with limits.shutdown still below 30
CLOSING: Final = 5.0  # seconds for the rest: pages that are being sent have 2, and the store is closed

_log = logging.getLogger("proxy.process")


@dataclass(frozen=True, slots=True)
class Base:
    """What there is before the store is open."""

    listeners: Listeners
    lasting: Lasting
    probes: Probes
    hooks: Hooks
    stack: AsyncExitStack  # ends what is started


@asynccontextmanager
async def serving(config: Config, stop: asyncio.Event | None = None) -> AsyncIterator[Services]:
    """As `running`, for a configuration made in code."""
    async with running(Loaded(config, [], []), stop=stop) as process:
        yield process.services


@asynccontextmanager
async def running(
    loaded: Loaded,
    *,
    hooks: Hooks | None = None,
    stop: asyncio.Event | None = None,
    adopted: Adopted | None = None,
    is_found: bool = True,
) -> AsyncIterator[Process]:
    """Serve for the length of the block, then drain. Raises StoreError, CannotListen, ConfigError.

    `stop`: set by /quitquitquit; None if that is not possible. `adopted`: sockets of a service manager, which
    listen already. `is_found`: it has an admin listener and, if possible, the control socket. False: an admin
    or health listener only if its address is free.
    """
    asyncio.get_running_loop().set_exception_handler(logs.on_loop_exception)
    check_parser()
    async with AsyncExitStack() as stack:
        lasting = Lasting(descriptors=_descriptors(loaded.config))
        base = Base(
            Listeners(lasting.ports, adopted or Adopted()), lasting, Probes(), hooks or Hooks(), stack
        )
        stack.push_async_callback(base.listeners.close, "health")
        await _offer_health(loaded.config, base, stop, required=is_found)
        process = await _made(loaded, base)
        await process.start(is_found=is_found)
        yield process
        await process.drain()
    _log.info("stopped", extra={"event": "stop"})


def _descriptors(config: Config) -> Descriptors:
    limits = config.limits
    return Descriptors(limits.admin_connections, limits.health_connections if config.server.health else 0)


async def _offer_health(config: Config, base: Base, stop: asyncio.Event | None, *, required: bool) -> None:
    """Open the health listener, if there is to be one. Raises CannotListen if it is required."""
    if config.server.health is None:
        return
    runner = health_runner(config, base.probes, base.lasting.descriptors, stop)
    place, handshake = Place("health", config.server.health), config.limits.admin_header_time
    try:
        await base.listeners.start(place, runner, None, handshake=handshake)
    except CannotListen:
        if required:
            raise


async def _made(loaded: Loaded, base: Base) -> Process:
    """Raises StoreError, ConfigError."""
    config = loaded.config
    services = await base.stack.enter_async_context(open_services(config))
    for sentence in await weaknesses(config.store.url.reveal()):
        event(_log, WARNING, "store_not_durable", sentence)
    if warning := store_warning(config):
        event(_log, WARNING, "store_not_lasting", warning)
    shared, health = await generation.shared_by_all(services, base.lasting), Health(services)
    material = await asyncio.to_thread(gather, needed(config), Material())
    parts = await generation.parts_of(loaded, services, material, base.lasting, health, base.probes)
    services.metrics.ready.set_function(lambda: float(health.ready))
    return Process(parts, shared, health, base)


class Process:
    """What outlives a reload. `replace` puts another configuration in place of the one that is served."""

    def __init__(self, parts: Parts, shared: Shared, health: Health, base: Base) -> None:
        self.loaded = parts.loaded
        self.services = parts.services
        self.material = parts.material
        self.health = health
        self.hooks = base.hooks
        self.listeners = base.listeners
        self._probes = base.probes
        self._shared = shared
        self._admin = parts.pages
        self._stack = base.stack
        self._next_number = itertools.count(SHARED + 1)
        self._numbers = self._numbered(parts.loaded.config, {})  # of the listeners that routes have
        self.has_page = False  # whether there is an admin listener
        self._scheduler: asyncio.Task[None] | None = None
        self._control = AsyncExitStack()  # the control socket, until the drain
        accounts = parts.services.tokens.planned(parts.loaded.config)
        self.relay = RelayServer(self._context(parts, accounts, self._numbers, None))

    # -- start

    async def start(self, *, is_found: bool) -> None:
        """Raises StoreError, CannotListen."""
        config, tokens, stack = self.loaded.config, self.services.tokens, self._stack
        stack.push_async_callback(asyncio.to_thread, self._shared.audit.close, CLOSE_TIME)  # the last to end
        stack.push_async_callback(self.relay.close)
        stack.push_async_callback(self._control.aclose)
        self._declare_metrics()
        self._start_audit()
        self._lend_authorities(Material())
        await tokens.start()
        stack.push_async_callback(self.listeners.close, "admin", "data", "route")
        self.has_page = await self._offer_page(config, required=is_found)
        for place in places_of_all(config):
            await self._listen(place, SHARED, config, self.material)
        for place, number in self._numbers.items():
            await self._listen(place, number, config, self.material)
        self.listeners.require_all()
        self.relay.start()
        self._scheduler = self._loop(tokens.scheduler.run(), "keep tokens fresh")
        self._loop(tokens.report_logins(), "report due logins")
        self.services.metrics.reload_succeeded(self.services.clock.wall())
        self._probes.health = self.health
        if is_found:
            app = control.control_application(self.entry, self.health)
            await self._control.enter_async_context(control.offered(config.server.state_dir, app))
        summary = self.summary()
        _log.info("%s", summary.sentence, extra={"event": "start", "fields": summary.fields()})
        call(self.hooks.ready)

    async def _offer_page(self, config: Config, *, required: bool) -> bool:
        """Whether there is an admin listener now. Raises CannotListen if it is required."""
        context = self.material.listener(config.admin_listener_tls)
        place, handshake = Place("admin", config.server.admin), config.limits.admin_header_time
        try:
            await self.listeners.start(place, self._admin, context, handshake=handshake)
        except CannotListen:
            if required:
                raise
            return False
        return True

    def entry(self) -> ServerEntry:
        """What commands are told of this server."""
        config = self.loaded.config
        return control.server_entry(config, self.listeners, generation.own_names(config), self.health)

    def summary(self) -> Summary:
        return summarize(
            self.services,
            listening(self.services.config, self.listeners),
            generation.own_names(self.services.config),
        )

    def _loop(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = tasks.spawn(work, name)
        self._stack.push_async_callback(tasks.cancel, task)
        return task

    async def _listen(self, place: Place, number: int, config: Config, material: Material) -> None:
        """Raises CannotListen."""
        tls, files = config.listener_tls(place.address), self._shared.lasting.descriptors
        listener = Listener(self.relay, number)
        server = ReserveGate(listener, files) if tls or files.are_few else listener
        context, handshake = material.listener(tls), config.limits.header_time
        await self.listeners.start(place, web.ServerRunner(server), context, handshake=handshake)

    # -- reload

    async def replace(self, loaded: Loaded, material: Material) -> None:
        """Serve another configuration: all of it, or nothing has changed. Raises ConfigError.

        `material`: its TLS contexts. It must not need a restart (reload.py).
        """
        config = loaded.config
        parts = await generation.parts_of(
            loaded, self.services.under(config), material, self._shared.lasting, self.health, self._probes
        )
        numbers = self._numbered(config, self._numbers)
        opened: list[Place] = []
        try:
            await self._open(loaded, material, numbers, opened)
            self._swap(parts, numbers)
        except BaseException:
            await self.listeners.close_each(opened)
            raise
        removed = [each for each in self.listeners.places if each.kind == "route" and each not in numbers]
        await self.listeners.close_each(removed)
        await self._load_new()
        self.listeners.warn_of_unused()
        call(self.hooks.reloaded)

    async def _load_new(self) -> None:
        try:
            await self.services.tokens.load_new()
        except StoreError as error:  # they are loaded when they are used
            _log.warning("accounts of new credentials can't be read from the store: %s", error)

    def _numbered(self, config: Config, known: Mapping[Place, int]) -> dict[Place, int]:
        """A number for each listener that a route has to itself. None is used twice: connections have it."""
        return {each: known.get(each) or next(self._next_number) for each in places_of_routes(config)}

    async def _open(
        self, loaded: Loaded, material: Material, numbers: Mapping[Place, int], opened: list[Place]
    ) -> None:
        """Open the listeners that are new, and add them to `opened`. Raises ConfigError."""
        config = loaded.config
        for place, route in places_of_routes(config).items():
            if place in self._numbers:
                continue
            try:
                await self._listen(place, numbers[place], config, material)
            except CannotListen as error:
                position = config.routes.index(route)
                fault = loaded.fault(("routes", position, "listen"), str(error))
                raise ConfigError(config.place, [fault]) from error
            opened.append(place)

    def _context(
        self, parts: Parts, accounts: Accounts, numbers: Mapping[Place, int], before: RelayContext | None
    ) -> RelayContext:
        return generation.relay_context(
            parts.services, accounts, parts.material, self._shared, numbers, before
        )

    def _swap(self, parts: Parts, numbers: dict[Place, int]) -> None:
        """The swap: what may fail comes first, and no other task runs before all of it is done."""
        config, before = parts.loaded.config, self.material
        accounts = parts.services.tokens.planned(config)
        context = self._context(parts, accounts, numbers, self.relay.context)
        contexts = {
            place: parts.material.listener(_tls(config, place))
            for place in self.listeners.places
            if place.kind in {"admin", "data"} or place in numbers
        }
        pages = parts.pages.server
        assert isinstance(pages, AdminServer)
        if config.log != self.loaded.config.log:
            logs.set_up(config.log)
            self._shared.log.use(config.log)
            self._shared.audit.use(config.log)

        self.loaded, self.services, self.material, self._numbers = (
            parts.loaded,
            parts.services,
            parts.material,
            numbers,
        )
        self._declare_metrics()
        self.services.tokens.use(config, accounts)
        self._lend_authorities(before)
        self.relay.swap(context)
        self.health.use(self.services)
        self._serve_pages(pages)
        for place, tls in contexts.items():
            self.listeners.renew_tls(place, tls)

    def _start_audit(self) -> None:
        shared = self._shared
        shared.audit.use(self.loaded.config.log)
        AuditMetrics(PREFIX, self.services.metrics.registry, shared.audit)
        self.hooks.hangup.append(shared.audit.reopen)

    def _declare_metrics(self) -> None:
        config = self.services.config
        self.services.metrics.declare(
            config.credentials,
            [route.name for route in config.routes],
            upstream_errors=problems.UPSTREAM_ENDINGS,
            endings=problems.ENDINGS,
        )

    def _serve_pages(self, pages: AdminServer) -> None:
        server = self._admin.server
        assert isinstance(server, AdminServer)
        server.serve_instead(pages)

    def _lend_authorities(self, before: Material) -> None:
        """Give the token side its TLS contexts."""
        contexts: dict[Path, ssl.SSLContext] = {}
        changed: set[Path] = set()
        for settings, made in self.material.made.items():
            if isinstance(settings, AuthorizationServerTLS):
                contexts[settings.ca] = made.context
                if before.made.get(settings) is not made:
                    changed.add(settings.ca)
        self.services.servers.use(self.loaded.config.limits, contexts, changed)

    # -- stop

    @property
    def time_to_stop(self) -> float:
        """Seconds from the beginning of `drain` to the end of the process, at most."""
        return self.loaded.config.limits.shutdown + SAVE_GRACE + CLOSING

    async def drain(self) -> None:
        """Let requests in flight end, and refreshes be saved; no more of either begins."""
        self.health.draining = True
        call(self.hooks.draining)
        await self._control.aclose()
        await tasks.cancel(self._scheduler)  # a refresh that starts now would not end in time
        clock, shutdown = self.services.clock, self.loaded.config.limits.shutdown
        began = clock.boot()
        await self.listeners.stop("data", "route")
        await self.relay.drain(shutdown)
        left = shutdown - (clock.boot() - began)
        await self.services.tokens.close(max(left, SAVE_GRACE))


def _tls(config: Config, place: Place) -> ListenerTLS | None:
    return config.admin_listener_tls if place.kind == "admin" else config.listener_tls(place.address)
