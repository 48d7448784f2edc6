"""Accounts named by a field of each request: a store that holds their tokens."""

from __future__ import annotations

import asyncio
import base64

from proxy.config.load import load
from tests.black_box.conftest import Command
from tests.e2e import accounts
from tests.e2e.accounts import CREDENTIAL

STORE_KEY = bytes(range(32))
ENDPOINT = "https://login.example/token"
BY_HEADER = """
[store]
key = {{ file = "{key}" }}
[limits]
{limits}
[credentials.{credential}]
token_endpoint = "{endpoint}"
authorization_endpoint = "https://login.example/authorize"
client_id = "web"
"""
ACCOUNT = "Token-Proxy-Account"
ACCOUNT_OF_ROUTE = f'account = {{ header = "{ACCOUNT}" }}\n'


def with_accounts(command: Command, count: int, limits: str, routes: str) -> None:
    """A configuration, and a store with user000000 and so on; each has a token."""
    key = command.folder / "store.key"
    key.write_text(base64.b64encode(STORE_KEY).decode())
    key.chmod(0o600)
    command.configure(
        BY_HEADER.format(key=key, limits=limits, endpoint=ENDPOINT, credential=CREDENTIAL) + routes
    )
    config = load(command.config).config
    asyncio.run(accounts.empty_store(config))
    rows = accounts.rows(count, STORE_KEY, ENDPOINT, "web")
    accounts.fill_sqlite(config.server.state_dir / "tokens.db", rows)
