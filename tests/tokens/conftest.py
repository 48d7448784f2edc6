"""The token side of a process: its manager on a real store, over HTTP to a real authorization server.

    async with make_side() as side:            # grant authorization_code, memory store, tokens of an hour
        account = await side.log_in("ann")
        side.clock.advance(HOUR)
        served = await side.tokens.get(account)

The server shares the clock, which only moves on request; backoff is 500 times shorter than in production.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxy.config.load import load
from proxy.config.model import Config
from proxy.demo.authorization_server import AuthorizationServer, Client, TokenRequest
from proxy.demo.serve import running
from proxy.errors import StoreError
from proxy.oauth.binding import bind, server_of
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.fetch import Fetcher
from proxy.oauth.token import Token
from proxy.observe.metrics import Metrics
from proxy.secret import Secret
from proxy.store.base import AccountId, Record, Store
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.store.sqlite.store import SQLiteStore
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment
from proxy.tokens.login.logins import Logins
from proxy.tokens.manager import TokenManager
from proxy.tokens.refresh import backoff, refresh
from tests.fakes.clock import FakeClock

HOUR = 3600
CALLBACK = "http://127.0.0.1:8081/callback"
SEAL = bytes(range(32))
CLIENTS = (
    Client("web", "s3cret", redirect_uris=(CALLBACK,)),
    Client("other", "s3cret", redirect_uris=(CALLBACK,)),
    Client("robot", "s3cret", grants=("client_credentials",)),
)
CONFIG = """
[credentials.crm]
{credential}
client_secret = "s3cret"
[[routes]]
path = "/crm"
upstream = "http://127.0.0.1:1"
credential = "crm"
{route}
[limits]
token_wait = 5.0
authorization_server_total = 2.0
"""
CREDENTIALS = {
    "authorization_code": 'grant = "authorization_code"\nclient_id = "web"',
    "refresh_token": 'grant = "refresh_token"\nclient_id = "web"\nrefresh_token = "{seed}"',
    "client_credentials": 'grant = "client_credentials"\nclient_id = "robot"',
}


class FaultyStore:
    """A store whose methods can be made to fail; it counts their calls."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failing: set[str] = set()
        self.calls: Counter[str] = Counter()

    def changes(self) -> AsyncIterator[AccountId | None]:
        return self._store.changes()

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            if name in self.failing:
                raise StoreError("the disk is full")
            return await getattr(self._store, name)(*args, **kwargs)

        return call


@dataclass
class Side:
    """The token side of one process."""

    config: Config
    clock: FakeClock
    server: AuthorizationServer
    store: Store
    servers: AuthorizationServers
    tokens: TokenManager
    logins: Logins
    metrics: Metrics

    def account(self, name: str = "default") -> Account:
        return self.tokens.account("crm", name)

    async def log_in(self, name: str = "default", *, client: str = "web") -> Account:
        """Tokens as from a login, saved and in use."""
        await self.tokens.adopt(AccountId("crm", name), self.issued(client))
        return self.account(name)

    def issued(self, client: str = "web") -> Token:
        issued = self.server.issue(client, "alice")
        token = Token(
            access_token=Secret(issued["access_token"]),
            refresh_token=Secret(issued["refresh_token"]),
            server=server_of(self.config.credentials["crm"]),
            client_id=client,
            issued_at=self.clock.wall(),
            issued_boot=self.clock.boot(),
            boot_id=self.clock.boot_id,
            lifetime=float(issued["expires_in"]),
        )
        return bind(token, self.config.credentials["crm"])

    async def until(self, done: Callable[[], object]) -> None:
        """Wait until `done()`, where no event reports it."""
        async with asyncio.timeout(60):
            while not done():
                await asyncio.sleep(0.005)

    async def stored(self, name: str = "default") -> Record | None:
        return await self.store.get(AccountId("crm", name))

    @property
    def refreshes(self) -> list[TokenRequest]:
        """Completed refresh requests at the server."""
        return [request for request in self.server.token_requests if request.grant_type == "refresh_token"]

    def is_good(self, served: Attachment) -> bool:
        """Whether the server issued this token, and it is neither expired nor revoked."""
        return self.server.active(served.access_token.reveal()) is not None

    async def landed(self, account: Account) -> None:
        """Wait until no refresh of the account is under way."""
        while account.flight is not None:
            await asyncio.wait((account.flight,))

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Run the scheduler for the duration of the block."""
        task = asyncio.create_task(self.tokens.scheduler.run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def write_config(
    folder: Path,
    issuer: str,
    *,
    grant: str = "authorization_code",
    credential: str = "",
    seed: str = "",
    route: str = "",
) -> Config:
    text = credential or CREDENTIALS[grant].format(seed=seed)
    if "issuer" not in text and "token_endpoint" not in text:
        text += f'\nissuer = "{issuer}"'
    file = folder / "config.toml"
    file.write_text(CONFIG.format(credential=text, route=route))
    return load(file).config


@asynccontextmanager
async def process(
    config: Config, clock: FakeClock, server: AuthorizationServer, store: Store
) -> AsyncIterator[Side]:
    """As another process, which shares the store and the authorization server with others."""
    async with Fetcher(config.limits) as fetcher:
        metrics = Metrics()
        servers = AuthorizationServers(fetcher, clock)
        tokens = TokenManager(config, store, servers, clock, metrics)
        logins = Logins(config, store, servers, tokens)
        yield Side(config, clock, server, store, servers, tokens, logins, metrics)
        await tokens.close(1.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real time passes between the attempts of one refresh."""
    monkeypatch.setattr(backoff, "BACKOFF_FIRST", 0.002)
    monkeypatch.setattr(refresh, "SAVE_AGAIN", 0.002)
    monkeypatch.setattr(refresh, "TIME_TO_SAVE", 0.05)


MakeServer = Callable[..., contextlib.AbstractAsyncContextManager[AuthorizationServer]]


@pytest.fixture
def make_server(clock: FakeClock) -> MakeServer:
    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[AuthorizationServer]:
        settings = {"clients": CLIENTS, "access_token_lifetime": HOUR, "clock": clock, **options}
        server = AuthorizationServer(**settings)
        app = server.application()

        async def tell_its_time(_request: web.Request, response: web.StreamResponse) -> None:
            response.headers["Date"] = formatdate(settings["clock"].wall(), usegmt=True)

        app.on_response_prepare.append(tell_its_time)
        async with running(app):
            yield server

    return make


@pytest.fixture
def make_side(
    tmp_path: Path, clock: FakeClock, make_server: MakeServer, short_backoff: None
) -> Callable[..., Any]:
    """`make_side(grant=…, credential=TOML, route=TOML, store=…, started=True, **options of the server)`."""

    @asynccontextmanager
    async def make(
        *,
        grant: str = "authorization_code",
        credential: str = "",
        seed: str = "",
        route: str = "",
        store: Store | None = None,
        server: AuthorizationServer | None = None,
        started: bool = True,
        **options: Any,
    ) -> AsyncIterator[Side]:
        async with AsyncExitStack() as stack:
            if server is None:
                server = await stack.enter_async_context(make_server(**options))
            config = write_config(
                tmp_path, server.issuer, grant=grant, credential=credential, seed=seed, route=route
            )
            store = store or SealedStore(MemoryStore(clock), SEAL)
            side = await stack.enter_async_context(process(config, clock, server, store))
            if started:
                await side.tokens.start()
            yield side

    return make


@pytest.fixture
def faulty_store(clock: FakeClock) -> FaultyStore:
    return FaultyStore(SealedStore(MemoryStore(clock), SEAL))


@pytest.fixture
async def side(make_side: Callable[..., Any]) -> AsyncIterator[Side]:
    async with make_side() as made:
        yield made


@pytest.fixture
async def open_sqlite(
    tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Callable[[], Awaitable[SealedStore]]]:
    """Each call opens another connection to one SQLite file, as another process would."""
    async with AsyncExitStack() as stack:

        async def open_() -> SealedStore:
            store = SealedStore(await SQLiteStore.open(tmp_path / "tokens.db", clock), SEAL)
            stack.push_async_callback(store.close)
            return store

        yield open_
