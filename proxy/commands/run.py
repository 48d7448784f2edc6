"""`token-proxy run`"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

from proxy import fd_limits, process
from proxy.config.model import Config

# New objects between two runs of the garbage collector. Requests leave no cycles, so that the default of 700
# would only waste time.
COLLECT_EVERY: Final = 10_000


async def run_server(config: Config) -> int:
    """Raises StoreError, CannotListen, ConfigError."""
    fd_limits.raise_limit(config.limits.connections)
    stop = asyncio.Event()
    process.stop_on_signals(stop)
    async with process.serving(config):
        gc.collect()
        gc.freeze()  # permanent objects: scanning them takes 28 ms, during which all requests wait
        gc.set_threshold(COLLECT_EVERY)
        await stop.wait()
    return 0
