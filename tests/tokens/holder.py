"""A process that holds a lease: `holder.py PATH NAME`. It reports that, and waits to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from proxy.clock import SystemClock
from proxy.store.sqlite.store import SQLiteStore
from proxy.tokens.refresh import lease


async def main(path: str, name: str) -> None:
    clock = SystemClock()
    store = await SQLiteStore.open(Path(path), clock)
    async with lease.holding(store, name, lease.this_process(clock.boot_id), clock):
        print("held", flush=True)
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
