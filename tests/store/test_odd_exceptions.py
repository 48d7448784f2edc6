"""One exception that nobody expects in a loop that watches a store: what others put is seen all the same."""

import asyncio

import pytest

from proxy import tasks
from proxy.store.base import AccountId
from proxy.store.postgres.store import PostgresStore
from proxy.store.redis import store as redis_module
from proxy.store.redis.store import RedisStore
from proxy.store.sqlite import store as sqlite_module
from proxy.store.sqlite.store import SQLiteStore

ANN = AccountId("crm", "ann")
PATIENCE = 10


class Odd(ValueError):
    """Nobody expects it."""


class Once:
    """In place of a function: its next call fails."""

    def __init__(self, function):
        self._function = function
        self.failed = asyncio.Event()

    def __call__(self, *args, **kwargs):
        if not self.failed.is_set():
            self.failed.set()
            raise Odd
        return self._function(*args, **kwargs)


async def seen(changes, *wanted):
    async with asyncio.timeout(PATIENCE):
        while await anext(changes) not in wanted:
            pass


async def test_sqlite(tmp_path, clock, record, monkeypatch):
    store, other = [await SQLiteStore.open(tmp_path / "tokens.db", clock) for _ in range(2)]
    before = tasks.internal_errors["watch SQLite"]
    monkeypatch.setattr(sqlite_module, "_news_after", Once(sqlite_module._news_after))
    changes = store.changes()
    await other.put(record(), expected=0)
    await seen(changes, ANN)
    assert tasks.internal_errors["watch SQLite"] == before + 1
    await store.close()
    await other.close()


async def test_redis_looks_on(redis_url, record, monkeypatch):
    store, other = [await RedisStore.open(redis_url) for _ in range(2)]
    before = tasks.internal_errors["look into the store"]
    changes = store.changes()
    monkeypatch.setattr(store._link, "run", once := Once(store._link.run))
    await asyncio.wait_for(once.failed.wait(), PATIENCE)
    await other.put(record(), expected=0)
    await seen(changes, ANN)
    assert tasks.internal_errors["look into the store"] == before + 1
    await store.close()
    await other.close()


async def test_redis_listens_on(redis_url, record, monkeypatch):
    monkeypatch.setattr(redis_module, "LOOK_EVERY", 60)
    once = Once(redis_module.Link.listen)
    monkeypatch.setattr(redis_module.Link, "listen", lambda link, heard: once(link, heard))  # noqa: PLW0108 (bound as a method)
    before = tasks.internal_errors["listen to the store"]
    store, other = [await RedisStore.open(redis_url) for _ in range(2)]
    await asyncio.wait_for(once.failed.wait(), PATIENCE)
    await asyncio.sleep(1)  # both listen again
    changes = store.changes()
    await other.put(record(), expected=0)
    await seen(changes, ANN)
    assert tasks.internal_errors["listen to the store"] == before + 1
    await store.close()
    await other.close()


@pytest.mark.parametrize("method", ["wait_for_news", "ask"])
async def test_postgres(postgres_url, record, monkeypatch, method):
    store, other = [await PostgresStore.open(postgres_url) for _ in range(2)]
    before = tasks.internal_errors["watch PostgreSQL"]
    changes = store.changes()
    link = store._watch._link
    monkeypatch.setattr(link, method, once := Once(getattr(link, method)))
    await asyncio.wait_for(once.failed.wait(), PATIENCE)
    await other.put(record(), expected=0)
    await seen(changes, ANN, None)
    assert tasks.internal_errors["watch PostgreSQL"] == before + 1
    assert await asyncio.wait_for(alive(store), PATIENCE)
    await store.close()
    await other.close()


async def alive(store):
    """Whether the watch has a new connection: that one was in an unknown state."""
    while store._watch._link is None:
        await asyncio.sleep(0.01)
    return True
