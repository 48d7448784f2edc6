"""What one configuration is made into: services, the relay's context, the admin listener's pages.

A reload makes another generation beside the one that serves, and puts it in its place whole (process.py).
What outlives that is handed in; of the former generation only what is the same goes on: a route with the
same settings keeps its connections.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxy import caller_keys
from proxy.admin.app import admin_application
from proxy.admin.probes import Probes
from proxy.admin.server import AdminRunner
from proxy.config.load import Loaded
from proxy.config.model import Config, Limits, Route
from proxy.errors import ConfigError
from proxy.hosts import EVERYWHERE, Hosts
from proxy.http.message import HeadLimits
from proxy.listeners import Place, places_of_routes
from proxy.observe import audit
from proxy.observe.audit import AuditLog
from proxy.observe.events import WARNING, event
from proxy.observe.health import Health
from proxy.observe.request_log import RequestLog
from proxy.relay.callers import CallerTable
from proxy.relay.context import Lasting, RelayContext
from proxy.relay.runtime import RouteRuntime
from proxy.relay.server import RelayServer
from proxy.routes import RouteTable
from proxy.services import Services
from proxy.store.base import AccountId
from proxy.tls_material import Material, gather, needed
from proxy.tokens.accounts import Accounts

_log = logging.getLogger("proxy.process")


@dataclass(frozen=True, slots=True)
class Shared:
    """What the relay's contexts of all generations share."""

    lasting: Lasting
    log: RequestLog
    audit: AuditLog
    via: bytes  # our own name in a Via field


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a generation whose making may take time, or fail."""

    loaded: Loaded
    services: Services
    material: Material
    pages: AdminRunner  # listens only in the first generation


@dataclass(frozen=True, slots=True)
class Generation:
    """All that one configuration is made into. A reload replaces it whole."""

    parts: Parts
    numbers: Mapping[Place, int]  # of the listeners that routes have to themselves
    accounts: Accounts  # taken into use by TokenManager.use
    context: RelayContext  # taken into use by RelayServer.swap


async def shared_by_all(services: Services, lasting: Lasting) -> Shared:
    """Raises StoreError."""
    via = b"token-proxy-" + (await services.store.identity()).encode("ascii")
    return Shared(lasting, RequestLog(services.config.log), AuditLog(), via)


async def parts_of(
    loaded: Loaded, services: Services, material: Material, lasting: Lasting, health: Health, probes: Probes
) -> Parts:
    """Raises ConfigError."""
    config = loaded.config
    check_material(loaded, material)
    await check_audit(loaded)
    pages = admin_application(services, Hosts(own_names(config)), health, probes)
    runner = AdminRunner(pages, config.limits, lasting.descriptors)
    await runner.setup()
    return Parts(loaded, services, material, runner)


def check_material(loaded: Loaded, material: Material) -> None:
    """Raises ConfigError for the TLS files that can't be used."""
    places = needed(loaded.config)
    faults = [loaded.fault(places[each], sentence) for each, sentence in material.unusable.items()]
    if faults:
        raise ConfigError(loaded.config.place, faults)


async def check_audit(loaded: Loaded) -> None:
    """Warn of an audit log that can't be opened. Raises ConfigError if it is required."""
    log = loaded.config.log
    why = "" if log.audit is None else await asyncio.to_thread(audit.why_unusable, log.audit)
    if why and log.audit_required:
        raise ConfigError(loaded.config.place, [loaded.fault(("log", "audit"), why)])
    if why:
        event(
            _log, WARNING, "audit_unusable", "the audit log is not written now: %s", why, file=str(log.audit)
        )


def relay_context(
    services: Services,
    accounts: Accounts,
    material: Material,
    shared: Shared,
    numbers: Mapping[Place, int],
    before: RelayContext | None = None,
) -> RelayContext:
    """`numbers`: of the listeners that routes have to themselves. Changes nothing."""
    config, limits = services.config, services.config.limits
    known = {} if before is None else {runtime.route.name: runtime for runtime in before.runtimes}
    runtimes = [
        _runtime(
            route,
            services,
            accounts,
            material.context(route.tls) if route.upstream.scheme == "https" else None,
            shared.lasting,
            known.get(route.name),
        )
        for route in config.routes
    ]
    by_name = {runtime.route.name: runtime for runtime in runtimes}
    callers = _callers(services)
    return RelayContext(
        limits=limits,
        head_limits=HeadLimits(
            limits.header_size, limits.field_size, limits.fields, callers.keys if callers else None
        ),
        hosts=Hosts(own_names(config)),
        runtimes=runtimes,
        table=RouteTable(runtime for runtime in runtimes if runtime.route.listen is None),
        own={number: by_name[places_of_routes(config)[place].name] for place, number in numbers.items()},
        tokens=services.tokens,
        metrics=services.metrics,
        log=shared.log,
        audit=None if config.log.audit is None else shared.audit,
        via=shared.via,
        public_url=config.public_url,
        callers=callers,
        lasting=shared.lasting,
    )


async def relay_of(services: Services) -> RelayServer:
    """The data path without listeners, for `explain`. Raises ConfigError, StoreError."""
    material = await asyncio.to_thread(gather, needed(services.config), Material())
    check_material(Loaded(services.config, [], []), material)
    accounts = services.tokens.planned(services.config)
    shared = await shared_by_all(services, Lasting())
    return RelayServer(relay_context(services, accounts, material, shared, {}))


def _runtime(
    route: Route,
    services: Services,
    accounts: Accounts,
    tls: ssl.SSLContext | None,
    lasting: Lasting,
    known: RouteRuntime | None,
) -> RouteRuntime:
    limits: Limits = services.config.limits
    credential = services.config.credentials[route.credential]
    is_fixed = isinstance(route.account, str) and not credential.subject_field
    fixed = accounts.get(AccountId(route.credential, str(route.account))) if is_fixed else None
    attach, field, proves = credential.attach, credential.subject_field, credential.dpop
    if known is not None and known.is_of(route, limits, tls, fixed, attach, field, proves=proves):
        return known
    return RouteRuntime(
        route,
        limits,
        services.tokens,
        services.metrics,
        tls,
        fixed,
        lasting.heads_of(limits),
        lasting.idle,
        attach,
        field,
        proves=proves,
    )


def own_names(config: Config) -> Iterator[str]:
    """The accepted values of Host, besides loopback."""
    yield from config.server.allowed_hosts
    yield config.public_host
    server = config.server
    listeners = [*server.listen, server.admin, server.health, *(route.listen for route in config.routes)]
    hosts = [address.host for address in listeners if address is not None]
    yield from (host for host in hosts if host and host not in EVERYWHERE)  # a unix socket has none
    yield from (route.host for route in config.routes if route.host)


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
