"""The accounts that this process knows: one object per name, as long as it is referenced.

Accounts named in the configuration stay. Of the others, those with a record stay while recently used: memory
must not grow with the store, nor with names invented by callers. Beyond KEPT, the least recently used are
dropped. All accounts of a credential with few of them are loaded at the start, to be shown by name.

A reload makes another Accounts, which takes over the account objects of each client that stays. Those
of others end: their flights still save what they get, and nothing in the store is touched.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final, NamedTuple, Self
from weakref import WeakValueDictionary

from proxy.clock import Clock
from proxy.config.model import Config, Credential
from proxy.errors import StoreError, TokenError, TokenUnavailable, UnreadableRecord
from proxy.oauth.binding import Client, client_of
from proxy.observe.events import ERROR, INFO, decision, event
from proxy.store.base import AccountId, Record, Store
from proxy.tokens.account import Account
from proxy.tokens.changes import Changes
from proxy.tokens.refresh.throttle import ServerThrottle
from proxy.tokens.saved import records
from proxy.tokens.stored_token import StoredToken

KEPT: Final = 2048  # accounts; some 3 KiB each: in all a tenth of the memory of a process
DROPPED: Final = 8  # one in 8 is dropped at once: sorting them takes a millisecond, too long for each request
UNNOTED: Final = 50_000  # uses not yet noted; reached only if the store can't be written for long
KNOWN_AT_START: Final = 1000  # accounts loaded to be shown by name
_LAST: Final = "\x7f"  # after every account's name
STORE_PAUSE: Final = 5  # seconds, as Retry-After, if the token can't be read from the store
_DEFAULT: Final = "default"  # the account of a credential that has only one

_log = logging.getLogger("proxy.tokens")


class _Place(NamedTuple):
    account: Account
    kept_at: float  # boot clock


def _last_use(place: _Place) -> float:
    """By a request or by its place: dropping an account in back-off would start the back-off again."""
    return max(place.account.used_at, place.kept_at)


class Accounts:
    def __init__(self, config: Config, store: Store, clock: Clock, before: Self | None = None) -> None:
        """`before`: of the configuration that this one is to replace. It goes on unchanged until `begin`."""
        self._config = config
        self._credentials = config.credentials
        self._store = store
        self._clock = clock
        self.changes: Changes = before.changes if before else Changes()
        self._by_client: dict[Client, ServerThrottle] = dict(before._by_client) if before else {}  # noqa: SLF001
        self.throttles = {name: self._throttle(each) for name, each in config.credentials.items()}
        self._all: WeakValueDictionary[AccountId, Account] = WeakValueDictionary()
        self._labels = config.limits.account_labels
        self._crowded: set[str] = set()  # credentials with too many accounts to show by name
        self._shown: Counter[str] = Counter()
        self._store_failed = False  # so that an outage is logged once, not for each request
        self._recent: dict[AccountId, _Place] = {}
        self._unnoted: dict[AccountId, float] = {}  # uses (boot clock) of dropped accounts
        if before is not None:
            self._take_over(before)
        self.fixed: dict[AccountId, Account] = {key: self.get(key) for key in _named_in(config)}

    def _throttle(self, credential: Credential) -> ServerThrottle:
        """One for each client at a server: credentials of the same client share it."""
        client = client_of(credential)
        if client not in self._by_client:
            rate = self._config.limits.authorization_server_rate
            self._by_client[client] = ServerThrottle(self._clock, rate)
        return self._by_client[client]

    def _take_over(self, before: Self) -> None:
        """Share the accounts whose client stays. `before` is not changed."""
        for key, account in list(before._all.items()):
            credential = self._credentials.get(key.credential)
            if credential is not None and account.keeps(credential):
                self._all[key] = account
        places = before._recent | {
            key: _Place(account, self._clock.boot())
            for key, account in before.fixed.items()
            if account.held.generation or account.unreadable
        }
        named = set(_named_in(self._config))
        self._recent = {
            key: place
            for key, place in places.items()
            if self._all.get(key) is place.account and key not in named
        }
        self._unnoted = dict(before._unnoted)
        self._crowded = before._crowded & self._credentials.keys()
        self._shown = Counter({name: n for name, n in before._shown.items() if name in self._credentials})

    def begin(self) -> None:
        """Replace the earlier Accounts: the accounts taken over use their new credentials."""
        for throttle in self.throttles.values():
            throttle.use(self._config.limits.authorization_server_rate)
        in_use = set(map(id, self.throttles.values()))
        self._by_client = {client: each for client, each in self._by_client.items() if id(each) in in_use}
        for key, account in list(self._all.items()):
            account.use(self._credentials[key.credential])

    def get(self, key: AccountId) -> Account:
        """The account; a new one is not loaded yet. Raises TokenError if its credential has been removed."""
        account = self._all.get(key)
        if account is None:
            credential = self._credentials.get(key.credential)
            if credential is None:
                raise TokenError(f"the configuration no longer has the credential {key.credential!r}")
            account = Account(key, credential, self._clock, self.throttles[key.credential])
            self._all[key] = account
        return account

    def find(self, key: AccountId) -> Account | None:
        """The account, if this process has it in memory."""
        return self._all.get(key)

    def shown(self, key: AccountId) -> Account | None:
        """The account, if it is one of `known`."""
        place = self._recent.get(key)
        return self.fixed.get(key) or (place.account if place else None)

    def known(self) -> list[Account]:
        return [*self.fixed.values(), *(place.account for place in self._recent.values())]

    def used_since_noted(self, every: float) -> dict[AccountId, float]:
        """The last use (boot clock) of each account that is not in the configuration, if it is more than
        `every` seconds after the one noted in the store.
        """
        return self._unnoted | {
            key: place.account.used_at
            for key, place in self._recent.items()
            if place.account.used_at > place.account.noted_at + every
        }

    def noted(self, uses: Mapping[AccountId, float]) -> None:
        """These uses are noted in the store."""
        for key, used_at in uses.items():
            if self._unnoted.get(key) == used_at:
                del self._unnoted[key]
            if key in self._recent:
                self._recent[key].account.noted_at = used_at

    def with_room(self) -> list[str]:
        """The credentials with tokens in the store for which more refreshes may start now."""
        return [
            name
            for name, throttle in self.throttles.items()
            if not throttle.is_quiet and self._config.is_stored(name)
        ]

    def in_memory(self) -> list[Account]:
        """Every account in memory, also those that a request found without tokens."""
        return list(self._all.values())

    def apply(self, account: Account, held: StoredToken) -> None:
        """Apply a stored record to the account."""
        before = account.held.generation, account.unreadable
        account.apply(held)
        if (account.held.generation, account.unreadable) != before:
            self.changed(account)

    def changed(self, account: Account) -> None:
        """Tell the subscribers of `changes`. Accounts of callers' own tokens are not shown anywhere."""
        if self._all.get(account.key) is account:
            self.changes.note(account.key)

    def remember(self, account: Account) -> None:
        """Give the account a place among the recently used ones, if it has a record."""
        if self._all.get(account.key) is not account:
            return  # its credential was removed, or is another client now
        if account.key not in self.fixed and (account.held.generation or account.unreadable):
            self._recent[account.key] = _Place(account, self._clock.boot())
            if len(self._recent) > KEPT:
                self._drop_idle()

    def _drop_idle(self) -> None:
        for place in sorted(self._recent.values(), key=_last_use)[: max(1, KEPT // DROPPED)]:
            account = place.account
            del self._recent[account.key]
            if account.failures:  # of which the store does not know
                self.changes.note(account.key)
            if account.used_at > account.noted_at and len(self._unnoted) < UNNOTED:
                self._unnoted[account.key] = account.used_at

    async def load(self, account: Account) -> None:
        """Read the account from the store. Raises TokenUnavailable."""
        if account.grant.is_fixed:
            return
        try:
            held = await records.read(self._store, self._clock, account.credential, account.key, account.held)
        except UnreadableRecord as error:
            if not account.unreadable:  # once, not with every request
                event(_log, ERROR, "record_unreadable", f"{account.key}: {error}", **account.key._asdict())
                self.changed(account)
            account.unreadable = True
            self.remember(account)
            raise account.diagnosis().error(retry_after=STORE_PAUSE) from error
        except StoreError as error:
            account.behind = True
            if not self._store_failed:
                event(_log, ERROR, "store_unreadable", f"tokens can't be read from the store: {error}")
            self._store_failed = True
            raise TokenUnavailable("the token store can't be read now", retry_after=STORE_PAUSE) from error
        if held.generation > account.held.generation:
            sentence = "%s: generation %d is read from the store (%s)"
            decision(_log, sentence, account.key, held.generation, held.state)
        if self._store_failed:
            event(_log, INFO, "store_readable", "tokens can be read from the store again")
        self._store_failed = False
        self.apply(account, held)

    async def load_known(self) -> None:
        """Load the accounts in the configuration, and those shown by name. Raises StoreError."""
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
            elif whole and len(page) > self._labels:  # the last may have more
                after = AccountId(last, "")
            else:
                whole.append((last, rest))
                after = rest[-1].key
            for credential, records_ in whole:
                await self._show(credential, records_)

    async def follow(self, key: AccountId) -> None:
        """Read an account that another process may have changed."""
        if not self._config.is_stored(key.credential):
            return
        account = self.find(key)
        if account is None:
            if key.credential in self._crowded:
                return  # it is read when it is used
            account = self.get(key)
            self._shown[key.credential] += 1
            if self._shown[key.credential] > self._labels:
                self._crowded.add(key.credential)
        await self.load_quietly(account)
        self.remember(account)

    async def _show(self, credential: str, stored: list[Record]) -> None:
        if not self._config.is_stored(credential):
            return
        self._shown[credential] = len(stored)
        for record in stored:
            await self._load_record(record)

    async def _load_record(self, record: Record) -> None:
        """Apply a record that was read with others."""
        account = self.get(record.key)
        try:
            held = records.of_record(record, account.credential)
        except UnreadableRecord:
            await self.load_quietly(account)  # which logs the reason
        else:
            self.apply(account, held)
        self.remember(account)

    async def load_quietly(self, account: Account) -> None:
        """As `load`, but a failure is only logged."""
        try:
            await self.load(account)
        except TokenUnavailable:
            return  # logged above; the next request and the scheduler try again


def _by_credential(page: list[Record]) -> list[tuple[str, list[Record]]]:
    return [(name, list(group)) for name, group in groupby(page, lambda record: record.key.credential)]


def _named_in(config: Config) -> Iterator[AccountId]:
    for route in config.routes:
        if isinstance(route.account, str):
            yield AccountId(route.credential, route.account)
    for name, credential in config.credentials.items():
        if credential.required:
            yield AccountId(name, _DEFAULT)
