"""Which accounts this process knows: one object for a name, for as long as anybody holds it.

Accounts that the configuration names stay. Others have a place among those seen last, if the store has a
record of them: memory must not grow with the store, nor with the names that callers make up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final
from weakref import WeakValueDictionary

from cachetools import LRUCache

from proxy.clock import Clock
from proxy.config.model import Config
from proxy.errors import StoreError, TokenUnavailable, UnreadableRecord
from proxy.store.base import Key, Record, Store
from proxy.tokens import records
from proxy.tokens.account import Account, Held
from proxy.tokens.breaker import Breaker

KEPT: Final = 4096  # accounts; some 3 KiB each
STORE_PAUSE: Final = 5  # seconds told to a caller whose token can't be read from the store
_DEFAULT: Final = "default"  # the account of a credential that has only one

_log = logging.getLogger("proxy.tokens")


class Accounts:
    def __init__(self, config: Config, store: Store, clock: Clock) -> None:
        self._credentials = config.credentials
        self._store = store
        self._clock = clock
        self._breakers = {name: Breaker(clock) for name in config.credentials}
        self._all: WeakValueDictionary[Key, Account] = WeakValueDictionary()
        self._store_failed = False  # so that an outage is one line in the log, not one for each request
        self._recent: LRUCache[Key, Account] = LRUCache(maxsize=KEPT)
        self.fixed: dict[Key, Account] = {key: self.get(key) for key in _named_in(config)}

    def get(self, key: Key) -> Account:
        """The account; made, and not yet loaded, when it is new."""
        account = self._all.get(key)
        if account is None:
            credential = self._credentials[key.credential]
            account = Account(key, credential, self._clock, self._breakers[key.credential])
            self._all[key] = account
        return account

    def known(self) -> list[Account]:
        return [*self.fixed.values(), *self._recent.values()]

    def take(self, account: Account, held: Held) -> None:
        """Serve what the store holds from now on."""
        account.take(held)
        if account.held.generation:
            self._keep(account)

    async def load(self, account: Account) -> None:
        """Take over what the store holds. Raises TokenUnavailable."""
        try:
            held = await records.read(self._store, self._clock, account.credential, account.key, account.held)
        except UnreadableRecord as error:
            if not account.unreadable:  # once, not with every request
                _log.error("%s: %s", account.key, error)
            account.unreadable = True
            self._keep(account)
            raise TokenUnavailable(str(error), retry_after=STORE_PAUSE) from error
        except StoreError as error:
            if not self._store_failed:
                _log.error("tokens can't be read from the store: %s", error)
            self._store_failed = True
            raise TokenUnavailable("the token store can't be read now", retry_after=STORE_PAUSE) from error
        self._store_failed = False
        self.take(account, held)

    async def remember(self, record: Record) -> None:
        """Take over a record that was read with many others."""
        account = self.get(record.key)
        try:
            held = records.held(record, account.credential)
        except UnreadableRecord:
            await self.load_quietly(account)  # which says why
        else:
            self.take(account, held)

    async def load_quietly(self, account: Account) -> None:
        """As `load`, where nobody waits for the tokens."""
        try:
            await self.load(account)
        except TokenUnavailable:
            return  # logged above; the next who wants the account tries again

    def _keep(self, account: Account) -> None:
        if account.key not in self.fixed:
            self._recent[account.key] = account


def _named_in(config: Config) -> Iterator[Key]:
    for route in config.routes:
        if isinstance(route.account, str):
            yield Key(route.credential, route.account)
    for name, credential in config.credentials.items():
        if credential.required:
            yield Key(name, _DEFAULT)
