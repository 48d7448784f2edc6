"""The start and the stop of a serving process.

start:  health listener → store → tokens → admin listener → data listeners → ready
stop:   not ready → data listeners closed → requests in flight end → refreshes are saved → the rest
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from proxy import generation
from proxy.admin.health_listener import health_runner
from proxy.admin.probes import Probes
from proxy.adopted import Adopted
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.fd_limits import Descriptors
from proxy.hooks import Hooks
from proxy.listen import CannotListen, check_parser
from proxy.listeners import Listeners, Place
from proxy.observe import logs
from proxy.observe.events import WARNING, event
from proxy.observe.health import Health
from proxy.process import Base, Process
from proxy.relay.context import Lasting
from proxy.services import Services, open_services
from proxy.store.open import weaknesses
from proxy.tls_material import Material, gather, needed
from proxy.tokens.saved.lasting import store_warning

_log = logging.getLogger("proxy.process")


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
    listen already. `is_found`: it has an admin and a health listener and, if possible, the control
    socket. False: the former two only if their addresses are free.
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
        process = await _process_of(loaded, base)
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


async def _process_of(loaded: Loaded, base: Base) -> Process:
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
