"""Changes that other processes make in the store: the accounts in memory follow them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Final

from proxy import tasks
from proxy.store.base import AccountId, Store
from proxy.tokens.accounts import Accounts

WATCH: Final = "watch the store"  # in internal_errors_total


class StoreChanges:
    def __init__(self, store: Store, accounts: Callable[[], Accounts]) -> None:
        """`accounts`: the present ones, which a reload replaces."""
        self._store = store
        self._accounts = accounts
        self._changes: AsyncIterator[AccountId | None] | None = None

    def listen(self) -> None:
        """Begin, before anything is loaded, so that no change is missed."""
        self._changes = self._store.changes()

    async def watch(self) -> None:
        """Follow them, until the store is closed. Raises Finished."""
        changes, self._changes = self._changes, None
        if changes is None:  # the last iterator has failed: its changes are unknown
            changes = self._store.changes()
            await self.follow(None)
        async for key in changes:
            await self.follow(key)
        raise tasks.Finished

    async def follow(self, key: AccountId | None) -> None:
        accounts = self._accounts()
        if key is not None:
            await self._read(key, accounts.follow(key))
        else:  # anything may have changed
            for account in accounts.in_memory():
                await self._read(account.key, accounts.load_quietly(account))
        if key is None or accounts.shown(key) is None:  # else it has told by itself, if it has changed
            accounts.changes.note(key)

    async def _read(self, key: AccountId, reading: Coroutine[object, object, None]) -> None:
        try:
            await reading
        except Exception as error:  # noqa: BLE001 (changes of other accounts must still be seen)
            tasks.report(WATCH, error, f"unexpected error in reading {key}: report it")
