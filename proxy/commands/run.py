"""`token-proxy run`"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from proxy import fd_limits, process
from proxy.admin import launch
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.errors import StoreError

# New objects between two runs of the garbage collector. Requests leave no cycles, so that the default of 700
# would only waste time.
COLLECT_EVERY: Final = 10_000
Say = Callable[[str], object]


async def run_server(config: Config, say: Say | None = None) -> int:
    """`say`: prints to the terminal, if there is one. Raises StoreError, CannotListen, ConfigError."""
    fd_limits.raise_limit(config.limits.connections)
    stop = asyncio.Event()
    process.stop_on_signals(stop)
    hooks = process.Hooks(quit=[stop.set])
    async with process.running(Loaded(config, [], []), hooks) as server, process.controlled(server):
        if say is not None:
            with suppress(StoreError):  # the server has been told by its log
                link = await launch.make(config, server.services.store)
                say(f"Status page, signed in (once, within {launch.VALID_SAID}): {link}")
        gc.collect()
        gc.freeze()  # permanent objects: scanning them takes 28 ms, during which all requests wait
        gc.set_threshold(COLLECT_EVERY)
        await stop.wait()
    return 0
