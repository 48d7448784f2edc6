"""`token-proxy run`"""

from __future__ import annotations

import asyncio
import gc
from typing import Final

from proxy import fd_limits, process
from proxy.config.model import Config

# New objects between two looks of the garbage collector. A request leaves no cycle behind, so what Python
# looks for after every 700 is not there.
COLLECT_EVERY: Final = 10_000


async def run_server(config: Config) -> int:
    """Raises StoreError, CannotListen, ConfigError."""
    fd_limits.raise_limit(config.limits.connections)
    stop = asyncio.Event()
    process.stop_on_signals(stop)
    async with process.serving(config):
        gc.collect()
        gc.freeze()  # what every process has: to look at it all takes 28 ms, in which all callers wait
        gc.set_threshold(COLLECT_EVERY)
        await stop.wait()
    return 0
