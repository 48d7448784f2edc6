"""`store.url` and `store.key` give a sealed store."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StoreError, UnreadableRecord
from proxy.secret import Secret
from proxy.store.base import AccountId, Record, Store
from proxy.store.open import open_store
from tests.servers.redis import Redis

ANN = AccountId("crm", "ann")
MARKER = b"marker-secret"
MakeRecord = Callable[..., Record]


def secret(number: int) -> Secret:
    return Secret(base64.b64encode(bytes([number] * 32)).decode())


@asynccontextmanager
async def opened(
    directory: Path, clock: Any, *, url: str = "sqlite:tokens.db", key: Secret | None = None
) -> AsyncIterator[Store]:
    store = await open_store(url, directory, key, clock)
    yield store
    await store.close()


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


async def test_a_store_without_a_key_creates_one_beside_it(
    tmp_path: Path, clock: Any, record: MakeRecord
) -> None:
    directory = tmp_path / "state"
    async with opened(directory, clock) as store:
        await store.put(record(body=MARKER), expected=0)
    async with opened(directory, clock) as store:
        assert await store.get(ANN) == record(body=MARKER)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (directory, *directory.iterdir())}
    assert modes == {"state": 0o700, "tokens.db": 0o600, "store.key": 0o600}


async def test_no_secret_is_in_clear_in_any_file(tmp_path: Path, clock: Any, record: MakeRecord) -> None:
    async with opened(tmp_path, clock) as store:
        await store.put(record(body=MARKER), expected=0)
        await store.intend(ANN, 1, MARKER)
        await store.stash(f"login:{MARKER.decode()}", MARKER, 600)
        files = contents(tmp_path)
    assert set(files) == {"tokens.db", "tokens.db-wal", "tokens.db-shm", "store.key"}
    assert b"ann" in files["tokens.db-wal"]  # the record is there, and its name is in clear
    assert not [name for name, content in files.items() if MARKER in content]


async def test_a_key_from_the_configuration_is_used_instead_of_a_file(
    tmp_path: Path, clock: Any, record: MakeRecord
) -> None:
    async with opened(tmp_path, clock, key=secret(1)) as store:
        await store.put(record(body=MARKER), expected=0)
    assert set(contents(tmp_path)) == {"tokens.db"}
    async with opened(tmp_path, clock, key=secret(2)) as store:
        with pytest.raises(UnreadableRecord):
            await store.get(ANN)


async def test_a_lost_key_file_is_not_replaced_by_a_new_one(tmp_path: Path, clock: Any) -> None:
    async with opened(tmp_path, clock):
        pass
    (tmp_path / "store.key").unlink()
    with pytest.raises(StoreError, match=r"tokens\.db exists, but its key .*store\.key does not"):
        await open_store("sqlite:tokens.db", tmp_path, None, clock)
    assert set(contents(tmp_path)) == {"tokens.db"}


async def test_a_memory_store_needs_nothing_and_leaves_nothing(
    tmp_path: Path, clock: Any, record: MakeRecord
) -> None:
    async with opened(tmp_path, clock, url="memory:") as store:
        await store.put(record(body=MARKER), expected=0)
        assert await store.get(ANN) == record(body=MARKER)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "url", ["", "sqlite", "sqlite:", "memory:x", "mysql://user:hunter2@host/db", "tokens.db"]
)
async def test_an_unknown_url_is_refused_without_repeating_it(tmp_path: Path, clock: Any, url: str) -> None:
    with pytest.raises(
        StoreError, match=r"^store\.url is of an unknown kind: use sqlite:NAME, postgresql://…, "
    ):
        await open_store(url, tmp_path, None, clock)


async def test_a_key_that_is_not_32_bytes_is_refused_without_repeating_it(tmp_path: Path, clock: Any) -> None:
    with pytest.raises(StoreError, match="32 bytes in base64") as error:
        await open_store("memory:", tmp_path, Secret("hunter2"), clock)
    assert "hunter2" not in str(error.value)


# -- stores shared by hosts


async def test_a_store_in_redis_is_sealed_with_the_given_key(
    tmp_path: Path, clock: Any, record: MakeRecord, redis_server: Redis
) -> None:
    async with opened(tmp_path, clock, url=redis_server.url, key=secret(1)) as store:
        await store.put(record(body=MARKER), expected=0)
        await store.intend(ANN, 1, MARKER)
        await store.stash(f"login:{MARKER.decode()}", MARKER, 600)
        kept = {key: redis_server.ask("DUMP", key) for key in redis_server.ask("KEYS", "*")}
    assert b"{token-proxy}:record:crm\0ann" in kept
    assert not [key for key, value in kept.items() if MARKER in key + value]
    assert contents(tmp_path) == {}
    async with opened(tmp_path, clock, url=redis_server.url, key=secret(2)) as store:
        with pytest.raises(UnreadableRecord):
            await store.get(ANN)


async def test_a_store_shared_by_hosts_requires_a_key(
    tmp_path: Path, clock: Any, redis_server: Redis
) -> None:
    with pytest.raises(StoreError, match=r"^store\.key is missing"):
        await open_store(redis_server.url, tmp_path, None, clock)


WITHOUT = """
import asyncio, sys
sys.modules["redis"] = None
from proxy.errors import StoreError
from proxy.store.open import open_store
from proxy.secret import Secret
try:
    asyncio.run(open_store("redis://:hunter2@127.0.0.1", None, Secret("A" * 43 + "="), None))
except StoreError as error:
    print(error)
"""


def test_a_missing_client_library_is_named() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True).stdout
    assert said == "store.url names Redis, whose client is not installed: pip install 'token-proxy[redis]'\n"
