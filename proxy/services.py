"""The composition root: creates the objects that a configuration needs.

`open_services(config)` opens the store and connects the token side; commands use it directly, process.py adds
the listeners. A reload makes other Services: the clock, the metrics, the store, the token manager and the
connections to authorization servers stay the same objects, the rest is new.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from proxy.clock import Clock, SystemClock
from proxy.config.model import Config
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.fetch import Fetcher
from proxy.observe.metrics import Metrics
from proxy.store.open import open_store
from proxy.store.seal import SealedStore
from proxy.tokens import lifetime
from proxy.tokens.login.devices import DeviceLogins
from proxy.tokens.login.logins import Logins
from proxy.tokens.manager import TokenManager


@dataclass(frozen=True, slots=True)
class Services:
    config: Config
    clock: Clock
    metrics: Metrics
    store: SealedStore
    servers: AuthorizationServers
    tokens: TokenManager
    devices: DeviceLogins
    logins: Logins

    def under(self, config: Config) -> Services:
        """The services of another configuration. Neither these nor what they share is changed."""
        logins = Logins(config, self.store, self.servers, self.tokens, self.devices)
        return replace(self, config=config, logins=logins)


@asynccontextmanager
async def open_services(config: Config, clock: Clock | None = None) -> AsyncIterator[Services]:
    """Open all services; close them after the block in reverse order. Raises StoreError."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        store = await open_store(config.store.url.reveal(), config.server.state_dir, config.store.key, clock)
        stack.push_async_callback(store.close)
        metrics = Metrics()
        store.written = metrics.store_writable.set
        fetcher = await stack.enter_async_context(Fetcher(config.limits))
        servers = AuthorizationServers(fetcher, clock)
        tokens = TokenManager(config, store, servers, clock, metrics)
        stack.push_async_callback(tokens.close, config.limits.authorization_server_total)
        metrics.show_tokens(tokens.health, lifetime.STATES, lambda: tokens.account_labels, tokens.clock_skews)
        metrics.show_secrets(tokens.client_secret_ends)
        devices = DeviceLogins(servers)
        stack.push_async_callback(devices.close)
        logins = Logins(config, store, servers, tokens, devices)
        yield Services(config, clock, metrics, store, servers, tokens, devices, logins)
