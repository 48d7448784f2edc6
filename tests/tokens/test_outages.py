import asyncio
import pytest
from proxy.demo.faults import Fault
from tests.tokens.conftest import SEAL
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens import lease
from proxy.store.base import Key
from proxy.errors import StoreError

HOUR = 3600
STALE = 3000


def flush(memory):
    memory._records.clear()
    memory._leases.clear()


async def test_a_store_emptied_between_sending_and_saving_keeps_what_the_server_gave(make_side, clock):
    memory = MemoryStore(clock)
    async with make_side(store=SealedStore(memory, SEAL), grace=30) as side:
        account = await side.log_in()
        gate = asyncio.Event()
        side.server.script(Fault(wait_after=gate.wait))
        clock.advance(STALE)
        side.tokens.ready(account)
        await side.until(lambda: not side.server.faults)
        flush(memory)
        gate.set()
        await side.landed(account)
        print("generation", account.held.generation, len(side.refreshes))
        clock.advance(120)
        side.tokens.ready(account)
        await side.landed(account)
        clock.advance(HOUR)
        try:
            served = await side.tokens.get(account)
            assert side.is_good(served)
        finally:
            assert side.server.families_revoked == 0
