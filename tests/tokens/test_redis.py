"""A Redis that loses its data: processes that still have the tokens restore them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from proxy.clock import SystemClock
from proxy.store.base import AccountId
from proxy.store.redis.store import RedisStore
from proxy.store.seal import SealedStore
from tests.fakes.clock import FakeClock
from tests.patience import within
from tests.servers.redis import redis_of_worker, redis_server, start_redis
from tests.tokens.conftest import HOUR, SEAL

__all__ = ["redis_of_worker", "redis_server", "start_redis"]  # fixtures

ACCOUNTS = [f"a{number}" for number in range(100)]


@pytest.fixture
def clock():
    real = SystemClock()
    return FakeClock(real.wall(), real.boot(), real.boot_id)


@pytest.fixture
def processes(make_side, make_server):
    """`async with processes(2, redis) as (one, other)`: each with its own connections."""

    @asynccontextmanager
    async def make(count, redis, **options):
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(make_server(**options))
            sides = []
            for _ in range(count):
                store = SealedStore(await RedisStore.open(redis.url), SEAL)
                stack.push_async_callback(store.close)
                sides.append(await stack.enter_async_context(make_side(server=server, store=store)))
            yield sides

    return make


async def stored(side, names):
    records = [await side.stored(name) for name in names]
    return [record is not None and record.state == "valid" for record in records]


async def test_an_emptied_store_is_filled_again_within_two_seconds(processes, redis_server):
    async with processes(2, redis_server) as (one, other):
        for name in ACCOUNTS:
            await one.log_in(name)
        await other.until(lambda: len(other.tokens.accounts()) > len(ACCOUNTS))
        redis_server.flush()
        async with within(2):
            while not all(await stored(one, ACCOUNTS)):
                await asyncio.sleep(0.05)


async def test_after_it_was_emptied_no_refresh_token_is_sent_twice(processes, redis_server):
    async with processes(3, redis_server) as sides:
        one = sides[0]
        await one.log_in()
        for side in sides:
            await side.until(lambda side=side: side.account().state() == "valid")
        for refreshed in range(1, 4):
            redis_server.flush()
            one.clock.advance(HOUR)
            served = await asyncio.gather(*(side.tokens.get(side.account()) for side in sides * 10))
            assert len({each.fields for each in served}) == 1
            assert one.is_good(served[0])
            assert len(one.refreshes) == refreshed
        assert one.server.families_revoked == 0


async def test_old_records_restored_by_a_restart_are_replaced(processes, start_redis):
    """As after a crash that took the latest writes, or from a backup."""
    redis = start_redis(appendonly="no", save="3600 1")
    async with processes(2, redis) as (one, other):
        account = await one.log_in()
        await other.until(lambda: other.account().state() == "valid")
        redis.ask("SAVE")
        for _ in range(3):
            one.clock.advance(1)
            await one.tokens.refresh_now(account)
        redis.kill()
        redis.start()
        one.clock.advance(HOUR)
        served = await asyncio.gather(*(side.tokens.get(side.account()) for side in (one, other)))
        assert one.is_good(served[0])
        assert served[0].fields == served[1].fields
        assert (await one.store.get(AccountId("crm", "default"))).generation > account.held.generation - 1
        assert one.server.families_revoked == 0
