"""Every kind of store, each with a second user of the same store, and a clock that is moved by hand."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.clock import Clock
from proxy.store.base import Key, Record, Store
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.store.sqlite import SQLiteStore

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


@dataclass
class Pair:
    """Two users of one store: two processes, as far as the store can tell."""

    store: Store
    other: Store


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def record() -> Callable[..., Record]:
    """A record of crm/ann in generation 1, except for what is given."""

    def make(account: str = "ann", generation: int = 1, **rest: object) -> Record:
        key = Key(str(rest.pop("credential", "crm")), account)
        fields = {"state": "valid", "due_at": None, "expires_at": None, "body": b"{}", **rest}
        return Record(key, generation, **fields)

    return make


@pytest.fixture(params=["memory", "sqlite", "sealed memory", "sealed sqlite"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Pair]:
    store: Store
    other: Store
    if "sqlite" in request.param:
        store = await SQLiteStore.open(tmp_path / "tokens.db", clock)
        other = await SQLiteStore.open(tmp_path / "tokens.db", clock)
    else:
        store = other = MemoryStore(clock)
    if "sealed" in request.param:
        store, other = SealedStore(store, SECRET), SealedStore(other, SECRET)
    yield Pair(store, other)
    await store.close()
    await other.close()


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
