"""Connections to PostgreSQL: opening, queries, pooling, and what their errors mean.

A call is one message to the server (PostgreSQL's simple query protocol), and all statements of a message
are one transaction: so no transaction stays open, and no session state is needed that a pgbouncer in
transaction mode would lose. A call runs in its own task: if its caller is cancelled, it is either done or
not started, and the connection stays usable.

psycopg_pool is not used: after an outage it reconnects at growing intervals, up to minutes, and its callers
get a timeout without the cause. Here a caller that needs a connection opens one and gets its error.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Self

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from proxy import tasks
from proxy.errors import StoreError
from proxy.secret import MASK

Rows = list[tuple[Any, ...]]
Values = Sequence[Any] | Mapping[str, Any]

LIMIT: Final = 5.0  # seconds for a call; a request that waits for its token has 15
CONNECTIONS: Final = 4  # for calls; a server allows 100 in all by default
IDLE: Final = 60.0  # seconds until an unused connection is closed
_MULTIPLE_HOSTS: Final = {"target_session_attrs": "read-write"}  # choose the primary among several hosts
_DEFAULTS: Final = {
    "connect_timeout": str(int(LIMIT)),
    "fallback_application_name": "token-proxy",
    "client_encoding": "UTF8",
}

_REMEDIES: Final = {  # by SQLSTATE, else by its class; postgresql.org/docs/current/errcodes-appendix.html
    "08": "the connection was lost: check that the server runs, and a pooler before it",
    "25006": "it is read-only: name the primary server, not a standby",
    "3F000": "its schema is missing: restart the proxy, which creates it",
    "40": "too many concurrent writes: try again",
    "42501": "this user lacks a right: let it own the store's schema, or grant it all on the tables there",
    "42P01": "its tables are missing: restart the proxy, which creates them",
    "53100": "the server's disk is full: free some space there",
    "53": "the server lacks resources: see its log",
    "57014": "the server was too slow: check its load, and locks on the store's tables",
    "57": "the server is shutting down or starting: wait for it",
    "58": "the server's disk failed: see its log",
    "XX": "the server found damage: see its log",
}


class Server(NamedTuple):
    """The server of the store. Never log it: `conninfo` may hold a password."""

    conninfo: str
    password: str
    name: str  # for messages

    def error(self, reason: str) -> StoreError:
        return StoreError(f"token store {self.name}: {reason}")

    def unanswered(self) -> StoreError:
        return self.error(
            f"no response from the server within {LIMIT:.0f} seconds: check its load and the network"
        )

    def unreachable(self, error: psycopg.Error | UnicodeError) -> StoreError:
        """An error of connecting. libpq gives no code for these, only its message."""
        if isinstance(error, psycopg.errors.ConnectionTimeout):
            return self.unanswered()
        words = str(error).partition("\n")[0].strip()  # the rest is advice, or a line for each host
        if self.password:
            words = words.replace(self.password, MASK)
        return self.error(f"{words}: check that the server runs, and the host, user, password and database")

    def failed(self, error: psycopg.Error) -> StoreError:
        """The error of a call, by its SQLSTATE; there is none where the connection was lost."""
        state = error.sqlstate
        if state is None:
            return self.error(f"the connection was lost ({type(error).__name__}): check that the server runs")
        remedy = _REMEDIES.get(state) or _REMEDIES.get(state[:2]) or "see the code, and the server's log"
        return self.error(f"{remedy} (SQLSTATE {state})")


def read_url(url: str) -> Server:
    """Parse the URL. Raises StoreError without any part of it: in a wrong URL a password may be anywhere."""
    wrong = StoreError(
        "store.url is invalid: expected postgresql://user:password@host:port/database, "
        "with the password percent-encoded unless it has only letters and digits"
    )
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.Error:
        raise wrong from None
    host, port, database = (given.get(name, "") for name in ("host", "port", "dbname"))
    if "@" in host + database or (port and not port.replace(",", "").isdigit()):
        raise wrong  # part of a password ended up there
    more = _MULTIPLE_HOSTS if "," in host else {}
    conninfo = make_conninfo(**{**_DEFAULTS, **more, **given})
    name = f"postgresql://{host}{':' if port else ''}{port}/{database}"
    return Server(conninfo, given.get("password", ""), name)


class Link:
    """One connection. Do not cancel its calls; `cut` ends them."""

    def __init__(self, server: Server, connection: AsyncConnection[Any]) -> None:
        self._server = server
        self._connection = connection
        self._is_cut = False
        self.used_at = 0.0  # on the event loop's clock

    @classmethod
    async def open(cls, server: Server) -> Self:
        """Connect. Raises StoreError."""
        try:
            connection = await AsyncConnection.connect(
                server.conninfo, autocommit=True, cursor_factory=AsyncClientCursor, prepare_threshold=None
            )
        except (psycopg.Error, UnicodeError) as error:  # UnicodeError: from an invalid host name
            raise server.unreachable(error) from None  # has the message, without the password
        return cls(server, connection)

    @property
    def server_version(self) -> int:
        return self._connection.info.server_version

    async def ask(self, query: bytes, values: Values = (), *, limit: float = LIMIT) -> Rows:
        """Run `query` within `limit` seconds; return the rows of its last statement. Raises StoreError."""
        timer = asyncio.get_running_loop().call_later(limit, self.cut)
        try:
            cursor = await self._connection.execute(query, values)
            await cursor.set_result(-1)
            return await cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise self._server.unanswered() if self._is_cut else self._server.failed(error) from error
        finally:
            timer.cancel()

    async def wait_for_news(self, seconds: float) -> None:
        """Wait for a notification, at most `seconds`. Raises StoreError."""
        try:
            async for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                pass
        except psycopg.Error as error:
            raise self._server.failed(error) from error

    def is_quiet(self) -> bool:
        """Whether nothing is unread: a server that closes a connection sends a message first."""
        if self._connection.closed:
            return False
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        return not poll.poll(0)

    def cut(self) -> None:
        """Shut the socket down, which ends the call at once; cancelling would wait for the server."""
        self._is_cut = True
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        await self._connection.close()


class Pool:
    """At most CONNECTIONS, opened on demand and closed after IDLE seconds without use."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._idle: list[Link] = []  # most recently used last
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._calls: set[asyncio.Task[Rows | StoreError]] = set()
        self._closed = False

    async def ask(self, query: bytes, values: Values) -> Rows:
        """The rows of the last statement, within LIMIT. After a StoreError, the query may have run or not."""
        try:
            async with asyncio.timeout(LIMIT):
                await self._free.acquire()
                call = tasks.spawn(self._serve(query, values), "ask PostgreSQL")
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
                outcome = await asyncio.shield(call)
        except TimeoutError:
            raise self._server.unanswered() from None
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    async def _serve(self, query: bytes, values: Values) -> Rows | StoreError:
        """Run a query and release the slot of its caller. Returns errors, as the caller may have gone."""
        try:
            if self._closed:
                return self._server.error("it is closed: restart the proxy")
            link = await self._take()
            try:
                rows = await link.ask(query, values)
            except BaseException:
                await link.close()
                raise
            await self._keep(link)
        except StoreError as error:
            return error
        finally:
            self._free.release()
        return rows

    async def _take(self) -> Link:
        while self._idle:
            link = self._idle.pop()
            if link.is_quiet():
                return link
            await link.close()
        return await Link.open(self._server)

    async def _keep(self, link: Link) -> None:
        now = asyncio.get_running_loop().time()
        link.used_at = now
        self._idle.append(link)
        while self._idle and self._idle[0].used_at < now - IDLE:
            await self._idle.pop(0).close()  # meanwhile others may take all that are left

    async def close(self) -> None:
        """Complete the pending calls, then close."""
        self._closed = True
        if self._calls:
            await asyncio.wait(self._calls)
        while self._idle:
            await self._idle.pop().close()
