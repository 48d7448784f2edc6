"""A store that is emptied or unreachable between the sending and the saving of a refresh."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from proxy.demo.faults import Fault
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.refresh import lease, refresh
from tests.tokens.conftest import SEAL, FaultyStore

GRACE = 30
HOUR = 3600
STALE = 3000


def empty(memory):
    """As FLUSHALL does."""
    memory._records.clear()
    memory._leases.clear()


async def test_a_store_emptied_between_sending_and_saving_gets_the_new_token(make_side, clock):
    memory = MemoryStore(clock)
    async with make_side(store=SealedStore(memory, SEAL), grace=GRACE) as side:
        account = await side.log_in()
        clock.advance(STALE)
        throttle = asyncio.Event()
        side.server.script(Fault(wait_after=throttle.wait))
        side.tokens.ready(account)
        await side.until(lambda: not side.server.faults)
        empty(memory)
        throttle.set()
        await side.landed(account)
        clock.advance(GRACE)
        await side.tokens.refresh_now(account)
        assert side.server.families_revoked == 0


async def test_of_two_that_fill_an_emptied_store_again_the_later_token_wins(make_side, make_server, clock):
    memory = MemoryStore(clock)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(make_server(grace=GRACE))
        ahead = await stack.enter_async_context(
            make_side(server=server, store=SealedStore(memory, SEAL), started=False)
        )
        behind = await stack.enter_async_context(
            make_side(server=server, store=SealedStore(memory, SEAL), started=False)
        )
        await ahead.log_in()
        await behind.tokens._accounts.load(behind.account())  # and gets no changes since
        await ahead.tokens.refresh_now(ahead.account())
        empty(memory)
        for side in (behind, ahead, behind):
            await side.tokens._accounts.load(side.account())
        clock.advance(GRACE)
        await ahead.tokens.refresh_now(ahead.account())
        assert server.families_revoked == 0


async def test_a_store_that_comes_back_is_first_written_by_the_process_with_the_response(
    make_side, make_server, clock, monkeypatch
):
    """Lease and grace have ended meanwhile; a process that waited must not send the old token."""
    monkeypatch.setattr(refresh, "TIME_TO_SAVE", 1.0)
    memory = MemoryStore(clock)
    away = {"get", "put", "intend", "lease", "renew", "release", "postpone"}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(make_server(grace=lease.LIFETIME))
        stores = [FaultyStore(SealedStore(memory, SEAL)) for _ in range(2)]
        holder, other = [
            await stack.enter_async_context(make_side(server=server, store=store)) for store in stores
        ]
        await holder.log_in()
        await other.until(lambda: other.account().state() == "valid")
        clock.advance(STALE)
        throttle = asyncio.Event()
        server.script(Fault(wait_after=throttle.wait))
        holder.tokens.ready(holder.account())
        await holder.until(lambda: not server.faults)
        for store in stores:
            store.failing = away
        throttle.set()
        await holder.until(lambda: stores[0].calls["put"] > 1)  # it has the response, and can't save it
        clock.advance(lease.LIFETIME + 1)
        stores[1].failing = set()  # a moment before the holder tries again
        other.tokens.ready(other.account())
        await asyncio.sleep(0.1)
        stores[0].failing = set()
        await holder.landed(holder.account())
        assert server.families_revoked == 0
