"""A store for several hosts: a PostgreSQL database, shared by all processes that open it.

Each call is one message and one transaction (link.py, statements.py). A put or an intent is on the server's
disk when the call returns, and on that of a synchronous standby if there is one, whatever
`synchronous_commit` is set to. Only writes that may be lost in a crash (a use, a due time, a renewal, a
release) are not synced. With an asynchronous standby a failover may lose the last puts: only the server can
prevent that.

A lease is a row, as durable as a put, and survives a restart. watch.py decides when an expired one may be
taken over. Times are those of the server's clock, except those given by callers.

TLS, several hosts, ~/.pgpass and other features of libpq are configured in the URL or by its environment
variables. The tables are in the schema `token_proxy`, unless the URL's options name another:
`?options=-csearch_path%3Dother`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, Final, Self

from proxy.errors import GenerationConflict
from proxy.store.base import AccountId, Due, Outline, Record, must_advance
from proxy.store.postgres import statements
from proxy.store.postgres.link import Link, Pool, Rows, Values, read_url
from proxy.store.postgres.schema import prepare
from proxy.store.postgres.statements import Statement, rendered
from proxy.store.postgres.watch import Watch

_NEVER: Final = (1.0, 0.0)  # an empty window


class PostgresStore:
    """Create it with `open`."""

    def __init__(self, pool: Pool, watch: Watch, schema: str) -> None:
        self._pool = pool
        self._watch = watch
        self._schema = schema

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open the store, and create its tables if there are none. Raises StoreError."""
        server = read_url(url)
        link = await Link.open(server)
        try:
            schema = await prepare(link, server)
            watch = await Watch.start(server, link, schema)
        except BaseException:
            await link.close()
            raise
        return cls(Pool(server), watch, schema)

    async def identity(self) -> str:
        ((identity,),) = await self._ask(statements.IDENTITY)
        return str(identity)

    async def get(self, key: AccountId) -> Record | None:
        rows = await self._ask(statements.GET, key)
        return _record(*rows[0]) if rows else None

    async def put(self, record: Record, *, expected: int) -> None:
        must_advance(record, expected)
        statement = statements.PUT_NEXT if expected else statements.PUT_FIRST
        values = {
            "credential": record.key.credential,
            "account": record.key.account,
            "generation": record.generation,
            "state": record.state,
            "due_at": record.due_at,
            "expires_at": record.expires_at,
            "body": record.body,
            "used_at": record.used_at,
            "expected": expected,
        }
        if not await self._ask(statement, values):
            raise _conflict(record.key)

    async def intend(self, key: AccountId, generation: int, intent: bytes) -> None:
        if not await self._ask(statements.INTEND, (intent, *key, generation)):
            raise _conflict(key)

    async def quarantine(self, key: AccountId) -> int:
        rows = await self._ask(statements.QUARANTINE, key)
        return int(rows[0][0]) if rows else 0

    async def due_before(self, credentials: Collection[str], when: float, limit: int) -> list[Due]:
        rows = await self._ask(statements.DUE, (list(credentials), when, limit))
        return [Due(at, AccountId(credential, account), used_at) for at, credential, account, used_at in rows]

    async def postpone(self, key: AccountId, generation: int, due_at: float | None) -> None:
        await self._ask(statements.POSTPONE, (due_at, *key, generation))

    async def touch(self, used: Mapping[AccountId, float]) -> None:
        credentials, accounts = [key.credential for key in used], [key.account for key in used]
        await self._ask(statements.TOUCH, (credentials, accounts, list(used.values())))

    async def page(self, after: AccountId | None, limit: int) -> list[Record]:
        rows = await self._ask(statements.PAGE, (*(after or ("", "")), limit))
        return [_record(*row) for row in rows]

    async def outlines(self, after: AccountId | None, limit: int) -> list[Outline]:
        rows = await self._ask(statements.OUTLINES, (*(after or ("", "")), limit))
        return [Outline(AccountId(credential, account), *rest) for credential, account, *rest in rows]

    async def get_many(self, keys: Collection[AccountId]) -> list[Record]:
        credentials, accounts = [key.credential for key in keys], [key.account for key in keys]
        return [_record(*row) for row in await self._ask(statements.GET_MANY, (credentials, accounts))]

    async def counts(self, now: float) -> Mapping[str, Mapping[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for credential, state, count in await self._ask(statements.COUNTS, {"now": now}):
            counts.setdefault(credential, {})[state] = count
        return counts

    def changes(self) -> AsyncIterator[AccountId | None]:
        return self._watch.follow()

    async def stash(self, name: str, value: bytes, seconds: float) -> None:
        await self._ask(statements.STASH, {"name": name, "value": value, "seconds": seconds})

    async def take(self, name: str) -> bytes | None:
        for value, in_time in await self._ask(statements.TAKE, (name,)):
            return bytes(value) if in_time else None
        return None

    async def lease(self, name: str, owner: str, seconds: float, *, succeed: str | None = None) -> str | None:
        window = self._watch.steady.window(seconds)
        return await self._lease(statements.LEASE, name, owner, seconds, succeed, window)

    async def renew(self, name: str, owner: str, seconds: float) -> bool:
        return await self._lease(statements.RENEW, name, owner, seconds, None, _NEVER) is None

    async def _lease(
        self,
        statement: Statement,
        name: str,
        owner: str,
        seconds: float,
        succeed: str | None,
        window: tuple[float, float],
    ) -> str | None:
        after, before = window
        values = {
            "name": name,
            "owner": owner,
            "seconds": seconds,
            "succeed": succeed or owner,
            "after": after,
            "before": before,
        }
        while not (rows := await self._ask(statement, values)):
            pass  # the holder released it between the two statements
        ((holder,),) = rows
        return None if holder == owner else str(holder)

    async def release(self, name: str, owner: str) -> None:
        await self._ask(statements.RELEASE, (name, owner))

    async def close(self) -> None:
        await self._watch.close()
        await self._pool.close()

    async def _ask(self, statement: Statement, values: Values = ()) -> Rows:
        return await self._pool.ask(rendered(statement, self._schema), values)


def _record(credential: str, account: str, *rest: Any) -> Record:
    return Record(AccountId(credential, account), *rest)


def _conflict(key: AccountId) -> GenerationConflict:
    return GenerationConflict(f"{key} was changed by another process: read it again")
