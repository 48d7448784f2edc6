"""Connections of RedisStore: calls, their timeouts, and what their errors mean.

redis-py's own automatisms are switched off: it repeats no command (a failed one may have been executed),
has no timeouts of its own, and sends only the commands issued here. A call that is cancelled or times out
closes its connection, so that a late response is not taken for that to the next call.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.resources import files
from typing import Any, Final, Self

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, InvalidResponse, NoScriptError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from proxy.errors import StoreError
from proxy.store.redis.url import Address, read_url

META: Final = "{token-proxy}:meta"  # the braces put all keys into one slot of a cluster
NEWS: Final = "{token-proxy}:news"
CONNECT_TIME: Final = 3.0  # seconds, as to an authorization server
CALL_TIME: Final = 5.0  # seconds in all; a request waits 15 for its token, which may take several calls
CONNECTIONS: Final = 16  # concurrent calls; the server runs them one by one anyway
_LISTENERS: Final = 1

_SCRIPT: Final = (files("proxy.store.redis") / "store.lua").read_bytes()
_DIGEST: Final = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()  # for EVALSHA

_REMEDIES: Final = {  # by the code at the start of an error
    "WRONGPASS": "it refuses the user and password: correct them in store.url",
    "NOAUTH": "it requires a password: put it into store.url",
    "NOPERM": "its user lacks rights: allow it ~{token-proxy}:* &{token-proxy}:* "
    "+@read +@write +@scripting +@pubsub +@connection +info +time",
    "DENIED": "it is in protected mode: give it a password, and put that into store.url",
    "READONLY": "it is a replica, which can't be written: name the primary in store.url",
    "OOM": "its memory is full: raise its maxmemory, or free some",
    "MISCONF": "it can't save to its disk: see its log, and free some space",
    "LOADING": "it is still loading its data: wait a moment",
    "BUSY": "another program's script blocks it: end that with SCRIPT KILL",
    "NOREPLICAS": "too few of its replicas are up to accept writes: restart them",
    "MASTERDOWN": "it is a replica that has lost its primary: name the primary in store.url",
    "CLUSTERDOWN": "its cluster is down: repair it",
    "MOVED": "another node of its cluster has our keys: name that node in store.url",
    "ASK": "its cluster is moving our keys: wait a moment",
    "TRYAGAIN": "its cluster is moving our keys: wait a moment",
    "WRONGTYPE": "another program has keys there that start with {token-proxy}: use another database",
    # from store.lua:
    "VERSION": "it was made by a newer version of token-proxy: use that version, or another database",
}
_CODE: Final = re.compile(r"[A-Z]{2,20}")


def store_error(where: str, error: Exception) -> StoreError:
    """The failure of the server and its remedy, by the error's class and code."""
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return StoreError(f"{where}: no response: check store.url, and that the server is not overloaded")
    code = _code(error)
    if code == "ERR" and isinstance(error, AuthenticationError):  # a password for a server without one
        code = "WRONGPASS"
    if code in _REMEDIES:
        return StoreError(f"{where}: {_REMEDIES[code]} ({code})")
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return StoreError(f"{where}: its certificate is not trusted: set its authority in ssl_ca_certs")
    if isinstance(error.__context__, ssl.SSLError):
        return StoreError(
            f"{where}: TLS failed: check that the server uses TLS on this port, otherwise use redis://"
        )
    if isinstance(error, InvalidResponse):
        return StoreError(
            f"{where}: it does not speak the Redis protocol: check the port; for TLS use rediss://"
        )
    if isinstance(error, RedisConnectionError | OSError):
        return StoreError(f"{where}: it can't be reached: check that it runs, and store.url")
    return StoreError(f"{where}: it refuses the command: see its log, and the rights of its user ({code})")


def _code(error: Exception) -> str:
    """The code at the start of a server's error; redis-py removes those that it knows."""
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    return code if _CODE.fullmatch(code) else "ERR"


class Link:
    """Create it with `open`. Its methods raise StoreError."""

    def __init__(self, pool: ConnectionPool, where: str) -> None:
        self.where = where
        self._client = Redis.from_pool(pool)
        self._turns = asyncio.Semaphore(CONNECTIONS)  # redis-py's own queue can lose a connection
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Parse the URL; does not connect yet. Raises StoreError."""
        address = await asyncio.to_thread(read_url, url)
        return cls(_pool(address), f"token store {address}")

    async def run(self, operation: str, *arguments: str | bytes | float) -> Any:
        """Run one operation of store.lua. If this fails, it may have been executed nevertheless."""
        async with self._call():
            try:
                return await self._client.execute_command("EVALSHA", _DIGEST, 1, META, operation, *arguments)
            except NoScriptError:  # the server has no script cache yet: nothing was executed
                return await self._client.execute_command("EVAL", _SCRIPT, 1, META, operation, *arguments)

    async def settings(self, pattern: str) -> Mapping[str, str]:
        """The server's settings that match `pattern`; empty if it does not show them."""
        async with self._call():
            try:
                return dict(await self._client.execute_command("CONFIG GET", pattern))
            except ResponseError:
                return {}

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` for each message of the channel NEWS, until the connection fails."""
        subscription = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            with self._translated():
                async with asyncio.timeout(CALL_TIME):
                    await subscription.subscribe(NEWS)
                async for _ in subscription.listen():
                    heard()
        finally:
            with suppress(RedisError):
                await subscription.aclose()

    async def close(self) -> None:
        """Complete the pending calls, then close."""
        if self._closed:
            return
        self._closed = True
        for _ in range(CONNECTIONS):
            await self._turns.acquire()
        with suppress(RedisError, OSError):
            await self._client.aclose()

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        if self._closed:
            raise StoreError(f"{self.where}: it is closed: restart the proxy")
        with self._translated():
            async with asyncio.timeout(CALL_TIME), self._turns:
                yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise store_error(self.where, error) from None  # the server's message may repeat a password


class _TLSConnection(Connection):
    """A TLS connection with a shared context; redis-py's own loads the trust store for each one."""

    def __init__(self, *, context: ssl.SSLContext, **rest: Any) -> None:
        self._context = context
        super().__init__(**rest)

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._context}


def _pool(address: Address) -> ConnectionPool:
    options: dict[str, Any] = {"connection_class": Connection}
    if address.tls:
        options = {"connection_class": _TLSConnection, "context": address.tls}
    return ConnectionPool(
        host=address.host,
        port=address.port,
        db=address.database,
        username=address.username,
        password=address.password.reveal() if address.password else None,
        socket_connect_timeout=CONNECT_TIME,
        socket_timeout=None,  # CALL_TIME instead; redis-py's timeout of writes may swallow a cancellation
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # 3 would add a handshake (HELLO) for features not used here
        driver_info=None,
        max_connections=CONNECTIONS + _LISTENERS,
        **options,
    )
