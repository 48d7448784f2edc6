"""Which accounts this process knows: one object for a name, for as long as anybody holds it.

Accounts that the configuration names stay. Of the others, if the store has a record of them, those used last
stay: memory must not grow with the store, nor with the names that callers make up. When there are more than
KEPT, those that were used longest ago go. Of a credential with few accounts all have a place at the
start, to be shown by name.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from proxy.clock import Clock
from proxy.config.model import Config
from proxy.errors import StoreError, TokenUnavailable, UnreadableRecord
from proxy.oauth.binding import server_of
from proxy.store.base import AccountId, Record, Store
from proxy.tokens.account import Account, StoredToken
from proxy.tokens.refresh.throttle import ServerThrottle
from proxy.tokens.saved import records

KEPT: Final = 2048  # accounts; some 3 KiB each, and in all a tenth of what a process needs anyway
DROPPED: Final = (
    8  # one in so many goes at once: to sort them all takes a millisecond, too long for each request
)
UNNOTED: Final = 50_000  # uses that wait to be noted; so many only where the store can't be written for long
KNOWN_AT_START: Final = 1000  # accounts loaded to be shown by name
_LAST: Final = "\x7f"  # after every account's name
STORE_PAUSE: Final = 5  # seconds told to a caller whose token can't be read from the store
_DEFAULT: Final = "default"  # the account of a credential that has only one

_log = logging.getLogger("proxy.tokens")


class _Place(NamedTuple):
    account: Account
    kept_at: float  # boot clock


def _last_use(place: _Place) -> float:
    """A request counts, and so does what gave it its place: a back-off that is forgotten begins again."""
    return max(place.account.used_at, place.kept_at)


class Accounts:
    def __init__(self, config: Config, store: Store, clock: Clock) -> None:
        self._credentials = config.credentials
        self._store = store
        self._clock = clock
        self.throttles = _throttles(config, clock)
        self._all: WeakValueDictionary[AccountId, Account] = WeakValueDictionary()
        self._labels = config.limits.account_labels
        self._crowded: set[str] = set()  # credentials with more accounts than are shown by name
        self._shown: Counter[str] = Counter()
        self._store_failed = False  # so that an outage is one line in the log, not one for each request
        self._recent: dict[AccountId, _Place] = {}
        self._unnoted: dict[AccountId, float] = {}  # uses (boot clock) of accounts that had to go
        self.fixed: dict[AccountId, Account] = {key: self.get(key) for key in _named_in(config)}

    def get(self, key: AccountId) -> Account:
        """The account; made, and not yet loaded, when it is new."""
        account = self._all.get(key)
        if account is None:
            credential = self._credentials[key.credential]
            account = Account(key, credential, self._clock, self.throttles[key.credential])
            self._all[key] = account
        return account

    def find(self, key: AccountId) -> Account | None:
        """The account, if anybody here holds it."""
        return self._all.get(key)

    def known(self) -> list[Account]:
        return [*self.fixed.values(), *(place.account for place in self._recent.values())]

    def used_since_noted(self, every: float) -> dict[AccountId, float]:
        """Accounts that the configuration does not name -> their last use (boot clock), where it is more than
        `every` seconds after the one that the store was told of.
        """
        return self._unnoted | {
            key: place.account.used_at
            for key, place in self._recent.items()
            if place.account.used_at > place.account.noted_at + every
        }

    def noted(self, uses: Mapping[AccountId, float]) -> None:
        """The store was told of these uses."""
        for key, used_at in uses.items():
            if self._unnoted.get(key) == used_at:
                del self._unnoted[key]
            if key in self._recent:
                self._recent[key].account.noted_at = used_at

    def in_memory(self) -> list[Account]:
        """Every one that anybody here holds, also those that a request has found without tokens."""
        return list(self._all.values())

    def apply(self, account: Account, held: StoredToken) -> None:
        """Serve what the store holds from now on."""
        account.apply(held)

    def keep(self, account: Account) -> None:
        """Give it a place among those used last, if there is anything of it to keep."""
        if account.key not in self.fixed and (account.held.generation or account.unreadable):
            self._recent[account.key] = _Place(account, self._clock.boot())
            if len(self._recent) > KEPT:
                self._drop_idle()

    def _drop_idle(self) -> None:
        for place in sorted(self._recent.values(), key=_last_use)[: max(1, KEPT // DROPPED)]:
            account = place.account
            del self._recent[account.key]
            if account.used_at > account.noted_at and len(self._unnoted) < UNNOTED:
                self._unnoted[account.key] = account.used_at

    async def load(self, account: Account) -> None:
        """Take over what the store holds. Raises TokenUnavailable."""
        try:
            held = await records.read(self._store, self._clock, account.credential, account.key, account.held)
        except UnreadableRecord as error:
            if not account.unreadable:  # once, not with every request
                _log.error("%s: %s", account.key, error)
            account.unreadable = True
            self.keep(account)
            raise account.diagnosis().error(retry_after=STORE_PAUSE) from error
        except StoreError as error:
            account.behind = True
            if not self._store_failed:
                _log.error("tokens can't be read from the store: %s", error)
            self._store_failed = True
            raise TokenUnavailable("the token store can't be read now", retry_after=STORE_PAUSE) from error
        self._store_failed = False
        self.apply(account, held)

    async def load_known(self) -> None:
        """Load the accounts of the configuration, and those to be shown by name. Raises StoreError."""
        for account in self.fixed.values():
            await self.load_quietly(account)
        after: AccountId | None = None
        while self._shown.total() < KNOWN_AT_START and (
            page := await self._store.page(after, self._labels + 1)
        ):
            *whole, (last, rest) = _by_credential(page)
            if len(rest) > self._labels:
                self._crowded.add(last)
                after = AccountId(last, _LAST)
            elif whole and len(page) > self._labels:  # there may be more of the last
                after = AccountId(last, "")
            else:
                whole.append((last, rest))
                after = rest[-1].key
            for credential, records_ in whole:
                await self._show(credential, records_)

    async def follow(self, key: AccountId) -> None:
        """Another process may have changed this account."""
        account = self.find(key)
        if account is None:
            if key.credential in self._crowded:
                return  # it is read when it is used
            account = self.get(key)
            self._shown[key.credential] += 1
            if self._shown[key.credential] > self._labels:
                self._crowded.add(key.credential)
        await self.load_quietly(account)
        self.keep(account)

    async def _show(self, credential: str, stored: list[Record]) -> None:
        if credential not in self._credentials:
            return
        self._shown[credential] = len(stored)
        for record in stored:
            await self._remember(record)

    async def _remember(self, record: Record) -> None:
        """Take over a record that was read with many others."""
        account = self.get(record.key)
        try:
            held = records.held(record, account.credential)
        except UnreadableRecord:
            await self.load_quietly(account)  # which says why
        else:
            self.apply(account, held)
        self.keep(account)

    async def load_quietly(self, account: Account) -> None:
        """As `load`, where nobody waits for the tokens."""
        try:
            await self.load(account)
        except TokenUnavailable:
            return  # logged above; who wants the account tries again, and so does the refresher


def _by_credential(page: list[Record]) -> list[tuple[str, list[Record]]]:
    return [(name, list(group)) for name, group in groupby(page, lambda record: record.key.credential)]


def _throttles(config: Config, clock: Clock) -> dict[str, ServerThrottle]:
    """One for each client at a server; what two credentials ask for as the same client counts together."""
    throttles: dict[tuple[str, str, str], ServerThrottle] = {}
    return {
        name: throttles.setdefault(
            (server_of(credential), credential.client_id, credential.grant),
            ServerThrottle(clock, config.limits.authorization_server_rate),
        )
        for name, credential in config.credentials.items()
    }


def _named_in(config: Config) -> Iterator[AccountId]:
    for route in config.routes:
        if isinstance(route.account, str):
            yield AccountId(route.credential, route.account)
    for name, credential in config.credentials.items():
        if credential.required:
            yield AccountId(name, _DEFAULT)
