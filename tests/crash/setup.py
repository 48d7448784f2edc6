"""A store, an authorization server with one-time refresh tokens, an API, and their configuration."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.clock import SystemClock
from proxy.config.load import load
from proxy.config.model import Config
from proxy.demo.authorization_server import AuthorizationServer, Client, fingerprint
from proxy.demo.serve import running
from proxy.demo.wiring import free_ports
from proxy.oauth.binding import server_of
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.services import open_services
from proxy.store.base import AccountId
from proxy.tokens.saved import codec, records
from proxy.tokens.stored_token import StoredToken
from tests.crash.herd import Api, api

HOUR: Final = 3600
CLIENT: Final = Client("web", "s3cret", redirect_uris=("http://127.0.0.1/callback",))
CONFIG: Final = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
state_dir = "state"

[store]
url = {{ file = "store.url" }}
key = {{ file = "store.key" }}

[log]
format = "json"
level = "warning"

[credentials.crm]
grant = "authorization_code"
authorization_endpoint = "{issuer}/authorize"
token_endpoint = "{issuer}/token"
client_id = "web"
client_secret = {{ file = "secret" }}

[[routes]]
path = "/api"
upstream = "{api}"
credential = "crm"
account = {{ header = "Token-Proxy-Account" }}
"""
# For tests in which a stopped process or a busy machine must not cause a timeout.
UNHURRIED: Final = """
[limits]
token_wait = 100
authorization_server_connect = 100
authorization_server_total = 100
"""


_given: Final[set[int]] = set()  # a port is free until its process listens there, so none is given twice


@dataclass
class Setup:
    folder: Path
    server: AuthorizationServer
    issuer: str
    api: Api

    def configure(self, name: str = "config", more: str = "") -> Config:
        """A configuration with ports of its own."""
        data, admin = _new_ports()
        path = self.folder / f"{name}.toml"
        path.write_text(CONFIG.format(data=data, admin=admin, issuer=self.issuer, api=self.api.url) + more)
        return load(path).config

    def is_current(self, refresh_token: str) -> bool:
        """Whether the server has issued no successor, received or not."""
        record = self.server.token_record(fingerprint(refresh_token))
        return record is not None and record.spent_at is None

    async def plant(self, config: Config, accounts: Iterable[str], *, expired: bool) -> dict[str, str]:
        """Tokens of a login an hour or two ago. Returns each account's refresh token."""
        planted = {}
        async with open_services(config) as services:
            for account in accounts:
                issued = self.server.issue(CLIENT.client_id, account)
                planted[account] = issued["refresh_token"]
                age = 2 * HOUR if expired else HOUR / 2
                token = Token(
                    access_token=Secret(issued["access_token"]),
                    refresh_token=Secret(issued["refresh_token"]),
                    server=server_of(config.credentials["crm"]),
                    client_id=CLIENT.client_id,
                    issued_at=services.clock.wall() - age,
                    issued_boot=services.clock.boot() - age,
                    boot_id=services.clock.boot_id,
                    lifetime=HOUR,
                )
                # an expired one is idle: it is not refreshed before a request
                due_at = None if expired else services.clock.wall() + HOUR / 4
                await records.put(
                    services.store,
                    AccountId("crm", account),
                    StoredToken(1, "valid", token, due_at),
                    expected=0,
                )
                if expired:
                    self.server.revoke(issued["access_token"])  # expired at the server, too
        return planted


async def stored(config: Config, account: str) -> tuple[str, str]:
    """The account's state and refresh token, as in the store now."""
    async with open_services(config, SystemClock()) as services:
        record = await services.store.get(AccountId("crm", account))
    assert record is not None
    token = codec.decode(record.body).refresh_token
    return record.state, token.reveal() if token else ""


@asynccontextmanager
async def set_up(folder: Path, store_url: str, *, grace: float) -> AsyncIterator[Setup]:
    """`grace`: seconds for which a spent refresh token gets the same response again."""
    _write_files(folder, store_url)
    server = AuthorizationServer(clients=(CLIENT,), access_token_lifetime=HOUR, grace=grace)
    async with running(server.application()) as issuer, api(server.active) as upstream:
        yield Setup(folder, server, issuer, upstream)


def _new_ports() -> list[int]:
    while not _given.isdisjoint(ports := free_ports(0, 0)):
        continue
    _given.update(ports)
    return ports


def _write_files(folder: Path, store_url: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "secret").write_text(CLIENT.client_secret)
    (folder / "store.url").write_text(store_url)  # it may have a password
    (folder / "store.key").write_text(base64.b64encode(bytes(range(32))).decode())
