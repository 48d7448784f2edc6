"""`token-proxy run`"""

from __future__ import annotations

import asyncio

from proxy import descriptors, worker
from proxy.config.model import Config


async def run_server(config: Config) -> int:
    """Raises StoreError, CannotListen, ConfigError."""
    descriptors.raise_limit(config.limits.connections)
    stop = asyncio.Event()
    worker.stop_on_signals(stop)
    async with worker.serving(config):
        await stop.wait()
    return 0
