"""Distribute the changes that a store's single watch task finds to all iterators of `Store.changes`."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterable

from proxy.store.base import AccountId


class Watcher(AsyncIterator[AccountId | None]):
    """One iterator of `Store.changes`. A key is pending only once."""

    def __init__(self) -> None:
        self._pending: dict[AccountId | None, None] = {}
        self._news = asyncio.Event()
        self._ended = False

    def tell(self, keys: Iterable[AccountId | None]) -> None:
        self._pending.update(dict.fromkeys(keys))
        if None in self._pending:  # covers all keys
            self._pending = {None: None}
        if self._pending:
            self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    async def __anext__(self) -> AccountId | None:
        while not self._pending and not self._ended:
            self._news.clear()
            await self._news.wait()
        if not self._pending:
            raise StopAsyncIteration
        key = next(iter(self._pending))
        del self._pending[key]
        return key


class Watchers:
    """All watchers of a store, held by weak references."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[Watcher] = weakref.WeakSet()
        self._ended = False

    def add(self) -> Watcher:
        watcher = Watcher()
        if self._ended:
            watcher.end()
        self._all.add(watcher)
        return watcher

    def tell(self, keys: Iterable[AccountId | None]) -> None:
        for watcher in self._all:
            watcher.tell(keys)

    def end(self) -> None:
        self._ended = True
        for watcher in self._all:
            watcher.end()
