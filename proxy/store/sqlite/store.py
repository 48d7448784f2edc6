"""A store for one host: a SQLite file, shared by all processes that open it.

SQLite blocks, so each store has one connection in its own thread, which runs the calls one by one. A call
is one transaction: if its caller is cancelled, it is either done completely or not at all.

A damaged row is reported as unreadable and affects no other; it is never overwritten. A file that was
replaced while in use is neither read nor written (file.py).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from proxy import tasks
from proxy.clock import Clock
from proxy.errors import GenerationConflict, StoreError
from proxy.observe.events import ERROR, event
from proxy.store.base import UNREADABLE, AccountId, Due, Outline, Record, must_advance, outline
from proxy.store.sqlite import statements
from proxy.store.sqlite.errors import FAILURES, store_error
from proxy.store.sqlite.file import OpenDatabase, open_database
from proxy.store.sqlite.statements import Rows, Statement, Values, execute, is_sound, only, sound_rows

T = TypeVar("T")

LOOK_EVERY: Final = 0.25  # seconds between checks for puts by other processes
_CHANGES_AT_ONCE: Final = 1000

_log = logging.getLogger("proxy.store")


class SQLiteStore:
    """Create it with `open`."""

    def __init__(self, file: OpenDatabase, clock: Clock, thread: ThreadPoolExecutor) -> None:
        self._path = file.path
        self._file = file
        self._clock = clock
        self._thread = thread
        self._seen = 0  # number of the last put that a watcher has seen
        self._failed_at = float("-inf")  # boot clock; time of the last error of the disk or the file
        self._closed = False

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> Self:
        """Open the store's file; create it first if there is none. Raises StoreError."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            file = await asyncio.get_running_loop().run_in_executor(thread, open_database, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        store = cls(file, clock, thread)
        try:
            store._seen = await store._run(lambda db: only(db, statements.LAST_PUT))
        except BaseException:
            await store.close()
            raise
        return store

    async def identity(self) -> str:
        return str(await self._run(lambda db: only(db, statements.IDENTITY)))

    async def get(self, key: AccountId) -> Record | None:
        return await self._run(lambda db: _get(db, key))

    async def put(self, record: Record, *, expected: int) -> None:
        must_advance(record, expected)

        def put(db: sqlite3.Connection) -> None:
            held = execute(db, statements.GENERATION, record.key)
            if (held[0][0] if held else 0) != expected:
                raise GenerationConflict(f"{record.key} was changed by another process: read it again")
            changed: int = only(db, statements.COUNT_PUT)
            columns = (record.generation, record.state, record.due_at, record.expires_at, record.body)
            execute(db, statements.PUT, (*record.key, *columns, record.used_at, changed))

        await self._transact(put)

    async def intend(self, key: AccountId, generation: int, intent: bytes) -> None:
        if not await self._query(statements.INTEND, (intent, *key, generation)):
            raise GenerationConflict(f"{key} was changed by another process: read it again")

    async def quarantine(self, key: AccountId) -> int:
        now = self._clock.wall()

        def move(db: sqlite3.Connection) -> int:
            held = sound_rows(db, statements.GENERATION, key)
            execute(db, statements.QUARANTINE, (now, *key))
            execute(db, statements.REMOVE, key)
            return max(0, int(held[0][0])) if held else 0

        return await self._transact(move)

    async def due_before(self, credentials: Collection[str], when: float, limit: int) -> list[Due]:
        def due(db: sqlite3.Connection) -> list[Due]:
            return [
                Due(at, AccountId(credential, account), used_at)
                for credential in credentials
                for at, account, used_at in sound_rows(db, statements.DUE, (credential, when, limit))
            ]

        return sorted(await self._run(due))

    async def postpone(self, key: AccountId, generation: int, due_at: float | None) -> None:
        await self._query(statements.POSTPONE, (due_at, *key, generation))

    async def touch(self, used: Mapping[AccountId, float]) -> None:
        def touch(db: sqlite3.Connection) -> None:
            for key, used_at in used.items():
                execute(db, statements.TOUCH, (used_at, *key))

        await self._transact(touch)

    async def page(self, after: AccountId | None, limit: int) -> list[Record]:
        return await self._run(lambda db: _page(db, (*(after or ("", "")), limit)))

    async def outlines(self, after: AccountId | None, limit: int) -> list[Outline]:
        return await self._run(lambda db: _outlines(db, (*(after or ("", "")), limit)))

    async def get_many(self, keys: Collection[AccountId]) -> list[Record]:
        def read(db: sqlite3.Connection) -> list[Record]:
            records = (_record_if_any(db, key) for key in keys)
            return [record for record in records if record is not None]

        return await self._run(read)

    async def counts(self, now: float) -> Mapping[str, Mapping[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        rows = await self._run(lambda db: sound_rows(db, statements.COUNTS, (now, now)))
        for credential, state, count in rows:
            counts.setdefault(credential, {})[state] = count
        return counts

    def changes(self) -> AsyncIterator[AccountId | None]:
        return self._changes_after(self._seen)

    async def _changes_after(self, seen: int) -> AsyncIterator[AccountId | None]:
        unreadable = False
        guard = tasks.Guard("watch SQLite")
        while not self._closed:
            try:
                last, keys = await self._run(_news_after(seen))
            except StoreError as error:
                if not unreadable and not self._closed:
                    sentence = f"changes by other processes can't be seen now: {error}"
                    event(_log, ERROR, "store_unreadable", sentence)
                unreadable = True
                await asyncio.sleep(LOOK_EVERY)
                continue
            except Exception as error:  # noqa: BLE001 (a generator that raises is over: no change would be seen)
                await asyncio.sleep(guard.failed(error))
                continue
            guard.worked()
            unreadable = False
            self._seen = max(self._seen, last) if last >= seen else last
            for key in [None] if last < seen else keys:  # None: an older copy of the file was restored
                yield key
            seen = last
            await asyncio.sleep(LOOK_EVERY)

    async def stash(self, name: str, value: bytes, seconds: float) -> None:
        now = self._clock.wall()

        def stash(db: sqlite3.Connection) -> None:
            execute(db, statements.SWEEP, (now,))
            execute(db, statements.STASH, (name, value, now + seconds))

        await self._transact(stash)

    async def take(self, name: str) -> bytes | None:
        for value, expires_at in await self._query(statements.TAKE, (name,)):
            if expires_at > self._clock.wall():
                return bytes(value)
        return None

    async def lease(self, name: str, owner: str, seconds: float, *, succeed: str | None = None) -> str | None:
        clock = self._clock

        def lease(db: sqlite3.Connection) -> str | None:
            now = clock.boot()  # here, as the transaction may have waited for a lock
            # after write errors, a holder that could not renew has the first chance
            ended = now if now >= self._failed_at + seconds else float("-inf")
            for (holder,) in execute(db, statements.HOLDER, (name, clock.boot_id, ended)):
                if holder not in {owner, succeed}:
                    return str(holder)
            execute(db, statements.LEASE, (name, owner, now + seconds, clock.boot_id))
            return None

        return await self._transact(lease)

    async def renew(self, name: str, owner: str, seconds: float) -> bool:
        return await self.lease(name, owner, seconds) is None

    async def release(self, name: str, owner: str) -> None:
        await self._query(statements.RELEASE, (name, owner))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown(wait=False)  # pending calls are completed
        await closing

    async def _query(self, statement: Statement, values: Values = ()) -> Rows:
        """Run one statement, which is a transaction by itself."""
        return await self._run(lambda db: execute(db, statement, values))

    async def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run several statements in one transaction."""

        def transaction(db: sqlite3.Connection) -> T:
            with db:  # commits, or rolls back
                db.execute("BEGIN IMMEDIATE")  # take the write lock at once: no other writer in between
                return work(db)

        return await self._run(transaction)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise StoreError(f"token store {self._path}: it is closed: restart the proxy")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._file.check_in_place()
            result = work(self._file.connection)
            self._file.check_in_place()  # otherwise the write went to a file without a name
        except (*FAILURES, OSError) as error:
            self._failed_at = self._clock.boot()
            raise store_error(self._path, error) from error
        return result


def _get(db: sqlite3.Connection, key: AccountId) -> Record | None:
    rows = db.execute(statements.GET.sql, key).fetchall()
    return _record(key, rows[0]) if rows else None


def _record(key: AccountId, row: tuple[Any, ...]) -> Record:
    return Record(key, *row[2:]) if is_sound(statements.GET, row) else _unreadable(key)


def _unreadable(key: AccountId) -> Record:
    return Record(key, 0, UNREADABLE, None, None, b"")


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT


def _page(db: sqlite3.Connection, values: Values) -> list[Record]:
    try:
        rows = db.execute(statements.PAGE.sql, values).fetchall()
    except sqlite3.DatabaseError as error:
        if not _is_corrupt(error):
            raise
        return [_record_of_many(db, AccountId(*row)) for row in sound_rows(db, statements.KEYS, values)]
    return [_record(AccountId(*row[:2]), row) for row in rows if is_sound(statements.KEYS, row[:2])]


def _outlines(db: sqlite3.Connection, values: Values) -> list[Outline]:
    try:
        rows = db.execute(statements.OUTLINES.sql, values).fetchall()
    except sqlite3.DatabaseError:
        return [outline(record) for record in _page(db, values)]  # raises unless a row is damaged
    return [
        Outline(AccountId(*row[:2]), *row[2:])
        if is_sound(statements.OUTLINES, row)
        else Outline(AccountId(*row[:2]), UNREADABLE, None, None)
        for row in rows
        if is_sound(statements.KEYS, row[:2])
    ]


def _record_if_any(db: sqlite3.Connection, key: AccountId) -> Record | None:
    try:
        return _get(db, key)
    except sqlite3.DatabaseError as error:
        if not _is_corrupt(error):
            raise
        return _unreadable(key)


def _record_of_many(db: sqlite3.Connection, key: AccountId) -> Record:
    try:
        return _get(db, key) or _unreadable(key)
    except sqlite3.DatabaseError:
        return _unreadable(key)


def _news_after(seen: int) -> Callable[[sqlite3.Connection], tuple[int, list[AccountId]]]:
    """A query for the keys put after `seen`, at most _CHANGES_AT_ONCE, and the number of the last put."""

    def look(db: sqlite3.Connection) -> tuple[int, list[AccountId]]:
        last: int = only(db, statements.LAST_PUT)
        rows = db.execute(statements.CHANGES.sql, (seen, last, _CHANGES_AT_ONCE)).fetchall()
        keys = [AccountId(*row[:2]) for row in rows if is_sound(statements.CHANGES, row)]
        return (rows[-1][2] if len(rows) == _CHANGES_AT_ONCE else last), keys

    return look
