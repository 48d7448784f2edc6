"""A process that has the response to a refresh and does not save it: `flier.py CONFIG PATH`.

It reports that, and waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from proxy.clock import SystemClock
from proxy.config.load import load
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.fetch import Fetcher
from proxy.observe.metrics import Metrics
from proxy.store.seal import SealedStore
from proxy.store.sqlite.store import SQLiteStore
from proxy.tokens.manager import TokenManager


class Servers(AuthorizationServers):
    """Stops for ever when the response has arrived."""

    async def token(self, *args: Any, **kwargs: Any) -> Any:
        await super().token(*args, **kwargs)
        print("answered", flush=True)
        await asyncio.Event().wait()


async def main(config_file: str, path: str) -> None:
    clock = SystemClock()
    config = load(Path(config_file)).config
    store = SealedStore(await SQLiteStore.open(Path(path), clock), bytes(range(32)))
    async with Fetcher(config.limits) as fetcher:
        tokens = TokenManager(config, store, Servers(fetcher, clock), clock, Metrics())
        await tokens.refresh_now(tokens.account("crm", "default"))


asyncio.run(main(*sys.argv[1:]))
