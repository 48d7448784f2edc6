"""The token side of a process that has one MCP server, as `docs` in its configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.config.load import load
from proxy.store.base import AccountId, Store
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.account import Account
from tests.fakes.clock import FakeClock
from tests.fakes.mcp import World, mcp_world
from tests.tokens.conftest import HOUR, SEAL, Side, process
from tests.tokens.login.test_logins import BROWSER, approve

KEY = AccountId("docs", "default")
CONFIG = """
[credentials.docs]
mcp = "{url}"
{lines}
[limits]
token_wait = 5.0
authorization_server_total = 10.0
"""


@pytest.fixture
async def world(clock: FakeClock) -> AsyncIterator[World]:
    async with mcp_world(clock=clock, access_token_lifetime=HOUR) as made:
        yield made


@pytest.fixture
def store(clock: FakeClock) -> SealedStore:
    return SealedStore(MemoryStore(clock), SEAL)


@pytest.fixture
def make_docs(
    tmp_path: Path, clock: FakeClock, world: World, store: SealedStore, short_backoff: None
) -> Callable[..., Any]:
    """`make_docs(TOML of the credential, store=…)`: each is another process with the same store."""

    @asynccontextmanager
    async def make(lines: str = "", *, store: Store = store) -> AsyncIterator[Side]:
        file = tmp_path / "config.toml"
        file.write_text(CONFIG.format(url=world.mcp.url, lines=lines))
        async with process(load(file).config, clock, world.auth, store) as side:
            await side.tokens.start()
            yield side

    return make


@pytest.fixture
async def docs(make_docs: Callable[..., Any]) -> AsyncIterator[Side]:
    async with make_docs() as side:
        yield side


async def log_in(side: Side, key: AccountId = KEY) -> Account:
    begun = await side.logins.begin(key, browser=BROWSER)
    await side.logins.finish(await approve(begun), BROWSER, path="/callback/docs")
    return side.tokens.account(*key)
