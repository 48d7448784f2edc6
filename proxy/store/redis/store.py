"""A store for several hosts: a Redis server, shared by all processes that can reach it.

Each call is one operation of store.lua, atomic and by the server's clock. After a failed or cancelled call
the operation may have been executed or not; generations make repeating it harmless.

Redis is as durable as it is configured to be (durability.py). It may be emptied, restarted from an older
copy, or replaced by a replica that lacks the last writes; no write waits for replicas, as WAIT would narrow
that gap, but not close it. Then `changes` yields None, and processes that hold tokens in memory restore the
missing ones (tokens/saved/); and for the length of one lease no new lease is granted, so that each live
holder can renew its own. That includes the first use of a new store, which looks like one that was just
emptied: the very first refresh waits for the length of a lease.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final, Self

from proxy import tasks
from proxy.errors import GenerationConflict, StoreError, UnreadableRecord
from proxy.observe.events import ERROR, event
from proxy.store.base import UNREADABLE, AccountId, Due, Outline, Record, must_advance
from proxy.store.redis.link import Link
from proxy.store.watchers import Watchers

LOOK_EVERY: Final = 0.5  # seconds between polls; a third of STANDSTILL in store.lua
_COLLECT: Final = 0.02  # seconds; collects puts that arrive together into one poll
_LISTEN_AGAIN: Final = 5.0  # seconds; polling finds all changes meanwhile
_AT_ONCE: Final = 1000  # records per operation, which blocks the server for some ms

_log = logging.getLogger("proxy.store")


class RedisStore:
    """Create it with `open`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._identity = secrets.token_hex(4)  # used if the store has none yet
        self._era = b""
        self._seen = 0  # number of the last put that watchers were notified of
        self._unreadable = False  # so that an outage is one line in the log
        self._news = asyncio.Event()
        self._watchers = Watchers()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, url: str) -> Self:
        """Raises StoreError."""
        store = cls(await Link.open(url))
        try:
            await store._look()
        except BaseException:
            await store.close()
            raise
        store._tasks = [
            tasks.forever("look into the store", store._keep_looking),
            tasks.forever("listen to the store", store._listen),
        ]
        return store

    async def identity(self) -> str:
        return self._identity

    async def get(self, key: AccountId) -> Record | None:
        fields = await self._link.run("get", _member(key))
        return _record(key, fields) if any(fields) else None

    async def put(self, record: Record, *, expected: int) -> None:
        must_advance(record, expected)
        done = await self._link.run(
            "put",
            _member(record.key),
            expected,
            record.generation,
            record.state,
            _written(record.due_at),
            _written(record.expires_at),
            record.body,
            _written(record.used_at),
        )
        _check(record.key, done)

    async def intend(self, key: AccountId, generation: int, intent: bytes) -> None:
        _check(key, await self._link.run("intend", _member(key), generation, intent))

    async def quarantine(self, key: AccountId) -> int:
        generation = await self._link.run("quarantine", _member(key))
        return int(generation) if generation.isdigit() else 0

    async def due_before(self, credentials: Collection[str], when: float, limit: int) -> list[Due]:
        rows = await self._link.run("due", when, limit, *credentials)
        return sorted(Due(float(at), _key(member), _time(used_at)) for at, member, used_at in rows)

    async def postpone(self, key: AccountId, generation: int, due_at: float | None) -> None:
        await self._link.run("postpone", _member(key), generation, _written(due_at))

    async def touch(self, used: Mapping[AccountId, float]) -> None:
        items = list(used.items())
        for start in range(0, len(items), _AT_ONCE):
            words: list[str | float] = []
            for key, used_at in items[start : start + _AT_ONCE]:
                words += (_member(key), used_at)
            await self._link.run("touch", *words)

    async def page(self, after: AccountId | None, limit: int) -> list[Record]:
        rows = await self._link.run("page", _member(after) if after else "", limit)
        return [_listed(_key(member), fields) for member, *fields in rows if any(fields)]

    async def outlines(self, after: AccountId | None, limit: int) -> list[Outline]:
        rows = await self._link.run("outlines", _member(after) if after else "", limit)
        return [_outline(_key(member), fields) for member, *fields in rows if any(fields)]

    async def get_many(self, keys: Collection[AccountId]) -> list[Record]:
        rows = await self._link.run("get_many", *map(_member, keys)) if keys else []
        return [_listed(_key(member), fields) for member, *fields in rows if any(fields)]

    async def counts(self, now: float) -> Mapping[str, Mapping[str, int]]:
        counts: dict[str, Counter[str]] = {}
        after: bytes | str = ""
        while True:
            after, some = await self._link.run("counts", now, after, _AT_ONCE)
            for kind, count in some:
                credential, state = _key(kind)
                counts.setdefault(credential, Counter())[state] += count
            if not after:
                return counts

    def changes(self) -> AsyncIterator[AccountId | None]:
        return self._watchers.add()

    async def stash(self, name: str, value: bytes, seconds: float) -> None:
        await self._link.run("stash", name, value, _milliseconds(seconds))

    async def take(self, name: str) -> bytes | None:
        value: bytes | None = await self._link.run("take", name)
        return value

    async def lease(self, name: str, owner: str, seconds: float, *, succeed: str | None = None) -> str | None:
        holder = await self._link.run("lease", name, owner, _milliseconds(seconds), succeed or "")
        return None if holder is None else holder.decode()

    async def renew(self, name: str, owner: str, seconds: float) -> bool:
        return bool(await self._link.run("renew", name, owner, _milliseconds(seconds)))

    async def release(self, name: str, owner: str) -> None:
        await self._link.run("release", name, owner)

    async def close(self) -> None:
        await tasks.cancel(*self._tasks)
        self._watchers.end()
        await self._link.close()

    async def _keep_looking(self) -> None:
        """Poll, even without watchers: each look is also a pulse, by which store.lua detects a standstill."""
        await self._pause()
        try:
            await self._look()
            self._unreadable = False
        except StoreError as error:
            if not self._unreadable:
                sentence = f"changes by other processes can't be seen now: {error}"
                event(_log, ERROR, "store_unreadable", sentence)
            self._unreadable = True

    async def _pause(self) -> None:
        """Wait for a notification, at most LOOK_EVERY."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await self._news.wait()
                await asyncio.sleep(_COLLECT)
        self._news.clear()

    async def _look(self) -> None:
        """Notify the watchers of puts since the last look."""
        more = True
        while more:
            identity, era, last, news = await self._link.run(
                "look", self._identity, self._era, self._seen, _AT_ONCE
            )
            self._identity = identity.decode()
            members, numbers = news[::2], news[1::2]
            more = len(members) == _AT_ONCE
            if era != self._era or int(last) < self._seen:  # the store lost records, or may have
                self._era, self._seen = era, int(last)
                self._watchers.tell([None])
                return
            self._watchers.tell([_key(member) for member in members])
            self._seen = int(numbers[-1]) if numbers else self._seen

    async def _listen(self) -> None:
        """Trigger a look as soon as a put is announced."""
        try:
            await self._link.listen(self._news.set)
        except StoreError:
            await asyncio.sleep(_LISTEN_AGAIN)


def _check(key: AccountId, done: int) -> None:
    if not done:
        raise GenerationConflict(f"{key} was changed by another process: read it again")


def _member(key: AccountId) -> str:
    """Encode a key so that members sort like keys: NUL sorts before all characters of names."""
    return "\0".join(key)


def _key(member: bytes) -> AccountId:
    credential, _, account = member.decode(errors="replace").partition("\0")
    return AccountId(credential, account)


def _record(key: AccountId, fields: Sequence[bytes | None]) -> Record:
    """Decode a record. Raises UnreadableRecord for values that none of our operations wrote."""
    generation, state, due_at, expires_at, body, intent, used_at = fields
    try:
        if generation is None or state is None or body is None:
            raise ValueError
        return Record(
            key,
            int(generation),
            state.decode(),
            _time(due_at),
            _time(expires_at),
            body,
            intent,
            _time(used_at),
        )
    except ValueError:
        raise UnreadableRecord(f"the record of {key} is damaged: restore a backup") from None


def _listed(key: AccountId, fields: Sequence[bytes | None]) -> Record:
    try:
        return _record(key, fields)
    except UnreadableRecord:
        return Record(key, 0, UNREADABLE, None, None, b"")


def _outline(key: AccountId, fields: Sequence[bytes | None]) -> Outline:
    state, due_at, expires_at = fields
    try:
        return Outline(key, (state or b"").decode(), _time(due_at), _time(expires_at))
    except ValueError:  # a value that none of our operations wrote
        return Outline(key, UNREADABLE, None, None)


def _written(time: float | None) -> float | str:
    return "" if time is None else time


def _time(text: bytes | None) -> float | None:
    return float(text) if text else None


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)
