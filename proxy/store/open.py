"""Open the store that `store.url` names, wrapped in encryption."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.clock import Clock
from proxy.config.values import SHARED_STORES
from proxy.errors import StoreError
from proxy.secret import Secret
from proxy.store.key import KEY_BYTES, decode_key, load_or_create_key
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.store.sqlite.store import SQLiteStore

if TYPE_CHECKING:
    from proxy.store.postgres.store import PostgresStore
    from proxy.store.redis.store import RedisStore

KEY_FILE: Final = "store.key"
_REDIS: Final = ("redis", "rediss")


async def open_store(url: str, state_dir: Path, key: Secret | None, clock: Clock) -> SealedStore:
    """Open the store at `url`; without `key`, a store on this host gets its own. Raises StoreError."""
    scheme, _, name = url.partition(":")
    if scheme == "memory" and not name:
        return SealedStore(MemoryStore(clock), decode_key(key.reveal()) if key else os.urandom(KEY_BYTES))
    if scheme == "sqlite" and name:
        path = state_dir / name
        secret = decode_key(key.reveal()) if key else await asyncio.to_thread(_own_key, state_dir, path)
        return SealedStore(await SQLiteStore.open(path, clock), secret)
    if scheme in SHARED_STORES:
        secret = _shared_key(key)  # before connecting
        return SealedStore(
            await (_redis_store() if scheme in _REDIS else _postgres_store()).open(url), secret
        )
    raise StoreError(
        "store.url is of an unknown kind: use sqlite:NAME, postgresql://…, redis://…, rediss://… or memory:"
    )


def place_of(url: str, state_dir: Path) -> str:
    """Where tokens are stored, for people: without a password."""
    scheme, _, name = url.partition(":")
    if scheme == "memory":
        return "in memory, until the process ends"
    if scheme == "sqlite":
        return str(state_dir / name)
    host = name.removeprefix("//").rpartition("@")[2].partition("?")[0]
    return f"{scheme}://{host}"


def check_url(url: str) -> None:
    """Whether `open_store` accepts the URL; nothing is opened. Raises StoreError."""
    scheme = url.partition(":")[0]
    if scheme in _REDIS:
        from proxy.store.redis.url import read_url  # noqa: PLC0415 (an extra)

        _redis_store()
        read_url(url)
    elif scheme in SHARED_STORES:
        _postgres_store()
        from proxy.store.postgres.link import read_url as read_postgres_url  # noqa: PLC0415 (an extra)

        read_postgres_url(url)


def existing_key(url: str, state_dir: Path, key: Secret | None) -> bytes:
    """The key of the store at `url`, without opening or creating anything. Raises StoreError."""
    if key is not None:
        return decode_key(key.reveal())
    if url.partition(":")[0] != "sqlite":
        raise StoreError(f"the store {url.partition(':')[0]}: has no key that lasts: set store.key")
    path = state_dir / KEY_FILE
    if not os.path.lexists(path):
        raise StoreError(f"there is no key {path} yet: `token-proxy run` makes it at its first start")
    return load_or_create_key(path)


async def weaknesses(url: str) -> list[str]:
    """How the store's server, as configured, may lose tokens; a sentence each. Raises StoreError."""
    if url.partition(":")[0] not in _REDIS:
        return []
    from proxy.store.redis import durability  # noqa: PLC0415 (an extra)

    return await durability.weaknesses(url)


def _shared_key(key: Secret | None) -> bytes:
    if key is None:
        raise StoreError("store.key is missing: a store shared by several hosts needs a key they share")
    return decode_key(key.reveal())


def _postgres_store() -> type[PostgresStore]:
    try:
        from proxy.store.postgres.store import PostgresStore  # noqa: PLC0415 (an extra, and slow to import)
    except ImportError:
        raise StoreError(
            "store.url names PostgreSQL, whose client is not installed: pip install 'token-proxy[postgres]'"
        ) from None
    return PostgresStore


def _redis_store() -> type[RedisStore]:
    try:
        from proxy.store.redis.store import RedisStore  # noqa: PLC0415 (an extra)
    except ImportError:
        raise StoreError(
            "store.url names Redis, whose client is not installed: pip install 'token-proxy[redis]'"
        ) from None
    return RedisStore


def _own_key(state_dir: Path, database: Path) -> bytes:
    """The key beside the database; a new one for a new database only, as it could not open an old one."""
    path = state_dir / KEY_FILE
    if os.path.lexists(database) and not os.path.lexists(path):
        raise StoreError(
            f"{database} exists, but its key {path} does not: restore the key, or move both away"
        )
    return load_or_create_key(path)
