"""A process that writes to a store: `writer.py URL count TIMES` or `writer.py URL fill LARGEST`.

count: increment the number in the record TIMES times, competing with others. fill: put larger and larger
records until the store refuses, printing each generation once it is saved; no file may exceed LARGEST bytes.
"""

from __future__ import annotations

import asyncio
import base64
import resource
import sys
from pathlib import Path

from proxy.clock import SystemClock
from proxy.errors import GenerationConflict, StoreError
from proxy.secret import Secret
from proxy.store.base import AccountId, Record, Store
from proxy.store.open import open_store

ANN = AccountId("crm", "ann")
SEALED_WITH = Secret(base64.b64encode(bytes(range(32))).decode())


async def opened(url: str) -> Store:
    return await open_store(url, Path(), SEALED_WITH, SystemClock())


async def count(store: Store, times: int) -> None:
    while times:
        held = await store.get(ANN)
        generation, number = (held.generation, int(held.body)) if held else (0, 0)
        try:
            body = str(number + 1).encode()
            await store.put(Record(ANN, generation + 1, "valid", None, None, body), expected=generation)
        except GenerationConflict:
            continue
        times -= 1


async def fill(store: Store, largest: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    held = await store.get(ANN)
    generation = held.generation if held else 0
    while True:
        generation += 1
        body = b"%d " % generation * (1 + generation % 5000)
        await store.put(Record(ANN, generation, "valid", None, None, body), expected=generation - 1)
        print(generation, flush=True)


async def main(url: str, work: str, number: str) -> None:
    store = await opened(url)
    try:
        await {"count": count, "fill": fill}[work](store, int(number))
    except StoreError as error:
        print(error, file=sys.stderr)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
