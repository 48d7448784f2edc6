"""A store in memory, lost when the process ends: for tests, the demo, and as the simplest example.

`changes` covers all users of the same object.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

from proxy.clock import Clock
from proxy.errors import GenerationConflict
from proxy.store.base import AccountId, Due, Outline, Record, later, must_advance, outline


class _Stashed(NamedTuple):
    value: bytes
    until: float  # Unix seconds


class _Lease(NamedTuple):
    owner: str
    until: float  # on the boot clock


class MemoryStore:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._identity = secrets.token_hex(4)
        self._records: dict[AccountId, Record] = {}
        self._quarantine: list[Record] = []
        self._stashed: dict[str, _Stashed] = {}
        self._leases: dict[str, _Lease] = {}
        self._changed: dict[AccountId, int] = {}  # key -> number of its last put, in order
        self._puts = 0
        self._news = asyncio.Event()  # set, and replaced, by each put and by close
        self._closed = False

    async def identity(self) -> str:
        return self._identity

    async def get(self, key: AccountId) -> Record | None:
        return self._records.get(key)

    async def put(self, record: Record, *, expected: int) -> None:
        must_advance(record, expected)
        if self._generation(record.key) != expected:
            raise GenerationConflict(f"{record.key} was changed by another process: read it again")
        held = self._records.get(record.key)
        used_at = later(record.used_at, held.used_at if held else None)
        self._records[record.key] = replace(record, intent=None, used_at=used_at)
        self._puts += 1
        self._changed.pop(record.key, None)
        self._changed[record.key] = self._puts
        self._wake_watchers()

    async def intend(self, key: AccountId, generation: int, intent: bytes) -> None:
        record = self._records.get(key)
        if record is None or record.generation != generation:
            raise GenerationConflict(f"{key} was changed by another process: read it again")
        self._records[key] = replace(record, intent=intent)

    async def quarantine(self, key: AccountId) -> int:
        record = self._records.pop(key, None)
        if record is None:
            return 0
        self._quarantine.append(record)
        self._changed.pop(key, None)
        return record.generation

    async def due_before(self, credentials: Collection[str], when: float, limit: int) -> list[Due]:
        due: dict[str, list[Due]] = {credential: [] for credential in credentials}
        for key, record in self._records.items():
            is_due = record.state == "valid" and record.due_at is not None and record.due_at < when
            if is_due and key.credential in due and record.due_at is not None:
                due[key.credential].append(Due(record.due_at, key, record.used_at))
        return sorted(entry for entries in due.values() for entry in sorted(entries)[:limit])

    async def postpone(self, key: AccountId, generation: int, due_at: float | None) -> None:
        record = self._records.get(key)
        if record is not None and record.generation == generation:
            self._records[key] = replace(record, due_at=due_at)

    async def touch(self, used: Mapping[AccountId, float]) -> None:
        for key, used_at in used.items():
            record = self._records.get(key)
            if record is not None:
                self._records[key] = replace(record, used_at=later(record.used_at, used_at))

    async def page(self, after: AccountId | None, limit: int) -> list[Record]:
        keys = sorted(key for key in self._records if after is None or key > after)
        return [self._records[key] for key in keys[:limit]]

    async def outlines(self, after: AccountId | None, limit: int) -> list[Outline]:
        return [outline(record) for record in await self.page(after, limit)]

    async def get_many(self, keys: Collection[AccountId]) -> list[Record]:
        return [self._records[key] for key in keys if key in self._records]

    async def counts(self, now: float) -> Mapping[str, Mapping[str, int]]:
        counts: dict[str, Counter[str]] = {}
        for record in self._records.values():
            counts.setdefault(record.key.credential, Counter())[_state_at(record, now)] += 1
        return counts

    def changes(self) -> AsyncIterator[AccountId | None]:
        return self._changes_after(self._puts)

    async def _changes_after(self, seen: int) -> AsyncIterator[AccountId | None]:
        while not self._closed:
            news = self._news
            unseen = [(number, key) for key, number in self._changed.items() if number > seen]
            for number, key in unseen:
                seen = number
                yield key
            if not unseen:
                await news.wait()

    async def stash(self, name: str, value: bytes, seconds: float) -> None:
        now = self._clock.wall()
        self._stashed = {name: kept for name, kept in self._stashed.items() if kept.until > now}
        self._stashed[name] = _Stashed(value, now + seconds)

    async def take(self, name: str) -> bytes | None:
        stashed = self._stashed.pop(name, None)
        if stashed is None or stashed.until <= self._clock.wall():
            return None
        return stashed.value

    async def lease(self, name: str, owner: str, seconds: float, *, succeed: str | None = None) -> str | None:
        held = self._leases.get(name)
        now = self._clock.boot()
        if held is not None and held.until > now and held.owner not in {owner, succeed}:
            return held.owner
        self._leases[name] = _Lease(owner, now + seconds)
        return None

    async def renew(self, name: str, owner: str, seconds: float) -> bool:
        return await self.lease(name, owner, seconds) is None

    async def release(self, name: str, owner: str) -> None:
        held = self._leases.get(name)
        if held is not None and held.owner == owner:
            del self._leases[name]

    async def close(self) -> None:
        self._closed = True
        self._wake_watchers()

    def _generation(self, key: AccountId) -> int:
        record = self._records.get(key)
        return 0 if record is None else record.generation

    def _wake_watchers(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _state_at(record: Record, now: float) -> str:
    if record.state != "valid":
        return record.state
    if record.expires_at is not None and record.expires_at <= now:
        return "expired"
    if record.due_at is not None and record.due_at <= now:
        return "stale"
    return "valid"
