"""A serving process: what outlives a reload, and its life. startup.py makes one.

reload: all that is new is made, and may fail → one swap → what is gone ends

As long as the process live: the clock, metrics and log; the store; the token manager with its accounts, their
back-offs and refreshes under way; the listeners of [server] and all open connections; the limit of open
files; `Health`. Everything else is of one generation (generation.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from proxy import generation, tasks
from proxy.admin import control
from proxy.admin.base_urls import listening
from proxy.admin.live import STREAMS
from proxy.admin.probes import Probes
from proxy.admin.server import AdminRunner, AdminServer
from proxy.admin.summary import Summary, summarize
from proxy.config.load import Loaded
from proxy.config.model import Config, ListenerTLS
from proxy.control_socket import ServerEntry
from proxy.errors import ConfigError
from proxy.generation import Generation, Parts, Shared
from proxy.hooks import Hooks, call
from proxy.listen import CannotListen
from proxy.listeners import Listeners, Place, places_of_all, places_of_routes
from proxy.notify.metrics import NotificationMetrics
from proxy.notify.notifier import Notifier
from proxy.observe import logs
from proxy.observe.audit import AuditMetrics
from proxy.observe.audit_file import CLOSE_TIME
from proxy.observe.health import Health
from proxy.observe.metrics import PREFIX
from proxy.relay import problems
from proxy.relay.context import SHARED, Lasting, RelayContext
from proxy.relay.server import Listener, RelayServer
from proxy.reserve import ReserveGate
from proxy.services import Services
from proxy.tls_material import Material

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


class Process:
    """What outlives a reload. `replace` puts another configuration in place of the one that is served."""

    def __init__(
        self,
        parts: Parts,
        shared: Shared,
        health: Health,
        base: Base,
    ) -> None:
        self.health = health
        self.hooks = base.hooks
        self.listeners = base.listeners
        self._probes = base.probes
        self._shared = shared
        self._pages = parts.pages  # the runner of the admin listener, and the pages of the first generation
        self._stack = base.stack
        self._next_number = itertools.count(SHARED + 1)
        self.has_page = False  # whether there is an admin listener
        self._scheduler: asyncio.Task[None] | None = None
        self._notifier = _notifier(parts.services)
        self._control = AsyncExitStack()  # the control socket, until the drain
        self.generation = self._made(parts, self._numbered(parts.loaded.config, {}), None)
        self.relay = RelayServer(self.generation.context)

    @property
    def loaded(self) -> Loaded:
        return self.generation.parts.loaded

    @property
    def services(self) -> Services:
        return self.generation.parts.services

    @property
    def material(self) -> Material:
        return self.generation.parts.material

    # -- start

    async def start(self, *, is_found: bool) -> None:
        """Raises StoreError, CannotListen."""
        config, tokens, stack = self.loaded.config, self.services.tokens, self._stack
        stack.push_async_callback(asyncio.to_thread, self._shared.audit.close, CLOSE_TIME)  # the last to end
        stack.push_async_callback(self.relay.close)
        stack.push_async_callback(self._control.aclose)
        self._declare_metrics(None)
        self._start_audit()
        self._lend_authorities(Material())
        await tokens.start()
        stack.push_async_callback(self.listeners.close, "admin", "data", "route")
        self.has_page = await self._offer_page(config, required=is_found)
        for place in places_of_all(config):
            await self._listen(place, SHARED, config, self.material)
        for place, number in self.generation.numbers.items():
            await self._listen(place, number, config, self.material)
        self.listeners.require_all()
        self.relay.start()
        self._scheduler = self._loop(tokens.scheduler.run(), "keep tokens fresh")
        self._loop(tokens.report_logins(), "report due logins")
        self._loop(self._notifier.run(), "notify")
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
        place, time_to_begin = Place("admin", config.server.admin), config.limits.admin_header_time
        context = self.material.listener(config.admin_listener_tls)
        try:
            await self.listeners.start(place, self._pages, context, handshake=time_to_begin)
        except CannotListen:
            if required:
                raise
            return False
        return True

    def entry(self) -> ServerEntry:
        """The description of this server for commands."""
        config = self.loaded.config
        return control.server_entry(config, self.listeners, generation.own_names(config), self.health)

    def summary(self) -> Summary:
        config = self.loaded.config
        return summarize(self.services, listening(config, self.listeners), generation.own_names(config))

    def _loop(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = tasks.spawn(work, name)
        self._stack.push_async_callback(tasks.cancel, task)
        return task

    async def _listen(self, place: Place, number: int, config: Config, material: Material) -> None:
        """Raises CannotListen."""
        tls, files = config.listener_tls(place.address), self._shared.lasting.descriptors
        listener = Listener(self.relay, number)
        server = ReserveGate(listener, files, probes=tls is not None or files.are_few)
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
        numbers = self._numbered(config, self.generation.numbers)
        opened: list[Place] = []
        try:
            await self._open(loaded, material, numbers, opened)
            self._swap(self._made(parts, numbers, self.generation.context))
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
        except Exception as error:  # noqa: BLE001 (the reload is done; they are loaded when they are used)
            tasks.report("reload", error, "accounts of new credentials can't be read now")

    def _numbered(self, config: Config, known: Mapping[Place, int]) -> dict[Place, int]:
        """A number for each listener that a route has to itself. None is used twice: connections have it."""
        return {each: known.get(each) or next(self._next_number) for each in places_of_routes(config)}

    async def _open(
        self, loaded: Loaded, material: Material, numbers: Mapping[Place, int], opened: list[Place]
    ) -> None:
        """Open the listeners that are new, and add them to `opened`. Raises ConfigError."""
        config = loaded.config
        for place, route in places_of_routes(config).items():
            if place in self.generation.numbers:
                continue
            try:
                await self._listen(place, numbers[place], config, material)
            except CannotListen as error:
                position = config.routes.index(route)
                fault = loaded.fault(("routes", position, "listen"), str(error))
                raise ConfigError(config.place, [fault]) from error
            opened.append(place)

    def _made(self, parts: Parts, numbers: Mapping[Place, int], before: RelayContext | None) -> Generation:
        """Changes nothing."""
        accounts = parts.services.tokens.planned(parts.loaded.config)
        context = generation.relay_context(
            parts.services, accounts, parts.material, self._shared, numbers, before
        )
        return Generation(parts, numbers, accounts, context)

    def _swap(self, after: Generation) -> None:
        """Put another generation in place. Nothing here may raise, and no other task runs in between."""
        before, self.generation = self.generation, after
        config = self.loaded.config
        if config.log != before.parts.loaded.config.log:
            logs.set_up(config.log)
            self._shared.log.use(config.log)
            self._shared.audit.use(config.log)
        self._declare_metrics(before.parts.loaded.config)
        self.services.tokens.use(config, after.accounts)
        self._lend_authorities(before.parts.material)
        self.relay.swap(after.context)
        self.health.use(self.services)
        self._notifier.use(config)
        _server_of(self._pages).serve_instead(_server_of(after.parts.pages))
        before.parts.pages.app[STREAMS].close()
        for place in self.listeners.places:
            if place.kind in {"admin", "data"} or place in after.numbers:
                self.listeners.renew_tls(place, self.material.listener(_tls(config, place)))

    def _start_audit(self) -> None:
        shared = self._shared
        shared.audit.use(self.loaded.config.log)
        AuditMetrics(PREFIX, self.services.metrics.registry, shared.audit)
        self.hooks.hangup.append(shared.audit.reopen)

    def _declare_metrics(self, before: Config | None) -> None:
        """Of the names that are new since `before`: with a thousand routes, all of them take long."""
        config = self.services.config
        known = set() if before is None else {route.name for route in before.routes}
        self.services.metrics.declare(
            config.credentials.keys() - (before.credentials.keys() if before else ()),
            [route.name for route in config.routes if route.name not in known],
            upstream_errors=problems.UPSTREAM_ENDINGS,
            endings=problems.ENDINGS,
        )

    def _lend_authorities(self, before: Material) -> None:
        """Give the token side its TLS contexts."""
        contexts, changed = self.material.of_servers(before)
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
        self.generation.parts.pages.app[STREAMS].close()
        await self._control.aclose()
        await tasks.cancel(self._scheduler)  # a refresh that starts now would not end in time
        clock, shutdown = self.services.clock, self.loaded.config.limits.shutdown
        began = clock.boot()
        await self.listeners.stop("data", "route")
        await self.relay.drain(shutdown)
        left = shutdown - (clock.boot() - began)
        await self.services.tokens.close(max(left, SAVE_GRACE))


def _notifier(services: Services) -> Notifier:
    metrics = NotificationMetrics(PREFIX, services.metrics.registry)
    notifier = Notifier(services.tokens, services.store, services.clock, metrics)
    notifier.use(services.config)
    return notifier


def _server_of(pages: AdminRunner) -> AdminServer:
    server = pages.server
    assert isinstance(server, AdminServer)
    return server


def _tls(config: Config, place: Place) -> ListenerTLS | None:
    return config.admin_listener_tls if place.kind == "admin" else config.listener_tls(place.address)
