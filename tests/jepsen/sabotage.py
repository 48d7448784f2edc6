"""Ways to break the product in the processes of a run: the checker must notice each (test_runs.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from proxy.errors import GenerationConflict
from proxy.store.base import AccountId, Record, Store
from proxy.tokens.refresh.lease import Lease
from proxy.tokens.saved import recovery


class _Broken:
    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:  # all other calls
        return getattr(self._store, name)


class _WithoutLeases(_Broken):
    """Every request for a lease is granted."""

    async def lease(self, *_about: object, **_succeed: object) -> None:
        return None

    async def renew(self, *_about: object) -> bool:
        return True


class _WithoutIntents(_Broken):
    async def intend(self, *_about: object) -> None:
        return

    async def postpone(self, *_about: object) -> None:
        return


class _WithoutGenerations(_Broken):
    """The last one to write wins."""

    async def put(self, record: Record, *, expected: int) -> None:
        try:
            await self._store.put(record, expected=expected)
        except GenerationConflict:
            stored = await self._generation(record.key)
            await self.put(replace(record, generation=stored + 1), expected=stored)

    async def _generation(self, key: AccountId) -> int:
        stored = await self._store.get(key)
        return stored.generation if stored else 0


def _send_unguarded(store: Store) -> Store:
    Lease.check = lambda self: None  # type: ignore[method-assign]
    return store


def _refill_nothing(store: Store) -> Store:
    recovery.missing = lambda *_about: None
    return store


WAYS: Final[Mapping[str, Callable[[Store], Any]]] = {
    "no-lease": _WithoutLeases,
    "no-intent": _WithoutIntents,
    "no-compare": _WithoutGenerations,
    "no-guard": _send_unguarded,
    "no-refill": _refill_nothing,
    "": lambda store: store,
}
