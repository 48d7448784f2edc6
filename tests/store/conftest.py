"""Fixtures: every kind of store with a second user, and a clock that is moved by hand."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from proxy.clock import Clock
from proxy.store.base import AccountId, Record, Store
from proxy.store.memory import MemoryStore
from proxy.store.postgres.store import PostgresStore
from proxy.store.redis.link import META
from proxy.store.redis.store import RedisStore
from proxy.store.seal import SealedStore
from proxy.store.sqlite.store import SQLiteStore
from tests.servers.postgres import Postgres, postgres
from tests.servers.redis import Redis, redis_of_worker, redis_server, start_redis

__all__ = ["postgres", "redis_of_worker", "redis_server", "start_redis"]  # fixtures

SECRET = bytes(range(32))


@dataclass
class HandClock:
    """Both clocks stand still until they are moved."""

    boot_id: str = "first-boot"
    wall_now: float = 1_800_000_000.0
    boot_now: float = 5_000.0

    def wall(self) -> float:
        return self.wall_now

    def boot(self) -> float:
        return self.boot_now

    async def advance(self, seconds: float) -> None:
        self.wall_now += seconds
        self.boot_now += seconds


@dataclass
class Pair:
    """Two users of one store: two processes, as far as the store can tell."""

    store: Store
    other: Store
    pass_time: Callable[[float], Awaitable[None]]  # in seconds, on the clock of the store


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def record() -> Callable[..., Record]:
    """A record of crm/ann in generation 1, with the given fields changed."""

    def make(account: str = "ann", generation: int = 1, **rest: object) -> Record:
        key = AccountId(str(rest.pop("credential", "crm")), account)
        fields = {"state": "valid", "due_at": None, "expires_at": None, "body": b"{}", **rest}
        return Record(key, generation, **fields)

    return make


@asynccontextmanager
async def memory_pair(request: pytest.FixtureRequest, clock: HandClock) -> AsyncIterator[Pair]:
    store = MemoryStore(clock)
    yield Pair(store, store, clock.advance)
    await store.close()


@asynccontextmanager
async def sqlite_pair(request: pytest.FixtureRequest, clock: HandClock) -> AsyncIterator[Pair]:
    path = request.getfixturevalue("tmp_path") / "tokens.db"
    store, other = [await SQLiteStore.open(path, clock) for _ in range(2)]
    yield Pair(store, other, clock.advance)
    await store.close()
    await other.close()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty database."""
    url = postgres.database()
    yield url
    postgres.drop(url)


@asynccontextmanager
async def postgres_pair(request: pytest.FixtureRequest, clock: HandClock) -> AsyncIterator[Pair]:
    server, url = request.getfixturevalue("postgres"), request.getfixturevalue("postgres_url")
    store, other = [await PostgresStore.open(url) for _ in range(2)]

    async def pass_time(seconds: float) -> None:
        """Make all times on the server, and those seen by its watchers, older by `seconds`."""
        back = timedelta(seconds=seconds)
        server.execute("UPDATE token_proxy.leases SET renewed_at = renewed_at - %s", back, url=url)
        server.execute("UPDATE token_proxy.stash SET expires_at = expires_at - %s", back, url=url)
        for user in (store, other):
            user._watch.steady.since -= seconds

    yield Pair(store, other, pass_time)
    await store.close()
    await other.close()


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """A store on an empty server."""
    return redis_server.url


@asynccontextmanager
async def redis_pair(request: pytest.FixtureRequest, clock: HandClock) -> AsyncIterator[Pair]:
    server = request.getfixturevalue("redis_server")
    store, other = [await RedisStore.open(server.url) for _ in range(2)]
    await age(server, 60)  # older than one that was just emptied
    yield Pair(store, other, partial(age, server))
    await store.close()
    await other.close()


async def age(server: Redis, seconds: float) -> None:
    """Make everything stored on the server older by `seconds`."""
    server.ask("HINCRBY", META, "lost", -round(1000 * seconds))
    leases = server.ask("HGETALL", "{token-proxy}:leases")
    for name, lease in leases.items():
        ends, rest = lease.split(b" ", 1)
        server.ask("HSET", "{token-proxy}:leases", name, b"%d %s" % (int(ends) - 1000 * seconds, rest))
    for key in server.ask("KEYS", "{token-proxy}:stash:*"):
        server.ask("PEXPIREAT", key, server.ask("PEXPIRETIME", key) - round(1000 * seconds))


KINDS: dict[str, Callable[[pytest.FixtureRequest, HandClock], AbstractAsyncContextManager[Pair]]] = {
    "memory": memory_pair,
    "sqlite": sqlite_pair,
    "redis": redis_pair,
    "postgres": postgres_pair,
}


@pytest.fixture(params=[*KINDS, *(f"sealed {kind}" for kind in KINDS)])
async def pair(request: pytest.FixtureRequest, clock: HandClock) -> AsyncIterator[Pair]:
    sealed, _, kind = request.param.rpartition(" ")
    async with KINDS[kind](request, clock) as plain:
        stores = (SealedStore(store, SECRET) for store in (plain.store, plain.other))
        yield Pair(*stores, plain.pass_time) if sealed else plain


@pytest.fixture
def store(pair: Pair) -> Store:
    return pair.store


@pytest.fixture
async def sqlite(tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStore]:
    store = await SQLiteStore.open(tmp_path / "tokens.db", clock)
    yield store
    await store.close()


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    previous = os.umask(request.param)
    yield
    os.umask(previous)
