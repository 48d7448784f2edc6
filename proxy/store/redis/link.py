"""The connections behind RedisStore: how a call is made, how long it may take, and what its errors mean.

redis-py is kept from whatever it does by itself: it repeats no command (one that failed may have been done),
sets no times of its own, and asks nothing of a server but what is asked here. A call that is cancelled or
takes too long closes its connection, so that its late answer can't be taken for that to the next call.
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

META: Final = "{token-proxy}:meta"  # the braces keep all keys in one slot of a cluster
NEWS: Final = "{token-proxy}:news"
CONNECT_TIME: Final = 3.0  # seconds, as to an authorization server
CALL_TIME: Final = 5.0  # seconds in all; a caller waits 15 for a token, and may need several calls
CONNECTIONS: Final = 16  # calls at once; the server does one after the other anyway
_LISTENERS: Final = 1

_SCRIPT: Final = (files("proxy.store.redis") / "store.lua").read_bytes()
_DIGEST: Final = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()  # the name that EVALSHA knows it by

_REMEDIES: Final = {  # by the code that an error begins with
    "WRONGPASS": "it refuses the user and password: put the right ones into store.url",
    "NOAUTH": "it asks for a password: put it into store.url",
    "NOPERM": "its user may not do all that is needed: allow it ~{token-proxy}:* &{token-proxy}:* "
    "+@read +@write +@scripting +@pubsub +@connection +info +time",
    "DENIED": "it is in protected mode: give it a password, and put that into store.url",
    "READONLY": "it is a replica, which can't be written: name the primary in store.url",
    "OOM": "its memory is full: raise its maxmemory, or free some",
    "MISCONF": "it can't save to its disk: look into its log, and free some space",
    "LOADING": "it is still loading its data: it will be there shortly",
    "BUSY": "another program's script keeps it busy: end that with SCRIPT KILL",
    "NOREPLICAS": "too few of its replicas are there to write: bring them back",
    "MASTERDOWN": "it is a replica that has lost its primary: name the primary in store.url",
    "CLUSTERDOWN": "its cluster is down: bring that back",
    "MOVED": "it is a node of a cluster that keeps our keys elsewhere: name the node that has them",
    "ASK": "its cluster is moving our keys: it will be there shortly",
    "TRYAGAIN": "its cluster is moving our keys: it will be there shortly",
    "WRONGTYPE": "another program has keys there that begin with {token-proxy}: use another database",
    "VERSION": "a newer version of this program made it: use that version, or another database",  # store.lua
}
_CODE: Final = re.compile(r"[A-Z]{2,20}")


def store_error(where: str, error: Exception) -> StoreError:
    """What went wrong with the server and what to do about it, judged by class and code."""
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return StoreError(f"{where}: it does not answer: check store.url, and that it is not overloaded")
    code = _code(error)
    if code == "ERR" and isinstance(error, AuthenticationError):  # a password, where the server has none
        code = "WRONGPASS"
    if code in _REMEDIES:
        return StoreError(f"{where}: {_REMEDIES[code]} ({code})")
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return StoreError(f"{where}: its certificate is not trusted: name its authority in ssl_ca_certs")
    if isinstance(error.__context__, ssl.SSLError):
        return StoreError(f"{where}: TLS with it failed: check that it speaks TLS there, else use redis://")
    if isinstance(error, InvalidResponse):
        return StoreError(f"{where}: it does not speak as Redis does: check the port; for TLS use rediss://")
    if isinstance(error, RedisConnectionError | OSError):
        return StoreError(f"{where}: it can't be reached: check that it runs, and store.url")
    return StoreError(
        f"{where}: it refuses what is asked: look into its log, and at what its user may do ({code})"
    )


def _code(error: Exception) -> str:
    """The word that an error of the server's begins with; redis-py takes off those that it knows."""
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    return code if _CODE.fullmatch(code) else "ERR"


class Link:
    """Made by `open`. Its methods raise StoreError."""

    def __init__(self, pool: ConnectionPool, where: str) -> None:
        self.where = where
        self._client = Redis.from_pool(pool)
        self._turns = asyncio.Semaphore(CONNECTIONS)  # redis-py's own queue may lose a connection
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connects nowhere yet. Raises StoreError."""
        address = await asyncio.to_thread(read_url, url)
        return cls(_pool(address), f"token store {address}")

    async def run(self, operation: str, *arguments: str | bytes | float) -> Any:
        """One operation of store.lua. If this fails, it may have been done nevertheless."""
        async with self._call():
            try:
                return await self._client.execute_command("EVALSHA", _DIGEST, 1, META, operation, *arguments)
            except NoScriptError:  # the server is new, or was restarted: nothing was done
                return await self._client.execute_command("EVAL", _SCRIPT, 1, META, operation, *arguments)

    async def settings(self, pattern: str) -> Mapping[str, str]:
        """The server's settings of these names; empty if it doesn't tell."""
        async with self._call():
            try:
                return dict(await self._client.execute_command("CONFIG GET", pattern))
            except ResponseError:
                return {}

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` for each message in NEWS, until that fails."""
        ear = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            with self._translated():
                async with asyncio.timeout(CALL_TIME):
                    await ear.subscribe(NEWS)
                async for _ in ear.listen():
                    heard()
        finally:
            with suppress(RedisError):
                await ear.aclose()

    async def close(self) -> None:
        """What was asked before is still done."""
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
            raise StoreError(f"{self.where}: it is closed: start the proxy again")
        with self._translated():
            async with asyncio.timeout(CALL_TIME), self._turns:
                yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise store_error(self.where, error) from None  # what the server says may repeat a password


class _TLSConnection(Connection):
    """redis-py's own reads the trust store again for each connection."""

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
        socket_timeout=None,  # CALL_TIME it is; redis-py's way to limit a write may swallow a cancellation
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # 3 would say more at the start of each connection, for what is not used here
        driver_info=None,
        max_connections=CONNECTIONS + _LISTENERS,
        **options,
    )
