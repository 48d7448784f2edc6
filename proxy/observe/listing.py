"""The listing of all accounts, a page at a time: those that need attention first, then by name.

It reads no more from the store than those accounts of the page that are not in memory. Which accounts a page
has, an index knows (account_index.py): made with the first page, for which all records are read once, and
brought up to date before each page, by the signal of changes and by the clock. It is dropped when nobody has
looked for a while.

Memory has precedence, as failures are not in the records. Of an account that is only in the store the index
knows what its record says in clear, which can be wrong for one that can't be used (damaged, or of another
client): that shows when it is on a page, and is corrected then. Nothing is written to the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from math import inf
from typing import Final, NamedTuple

from proxy.config.model import Config
from proxy.errors import StoreError, UnreadableRecord
from proxy.oauth import grants
from proxy.observe.account_index import AccountIndex, Line, is_indexable, key_of, name_of, stored_line
from proxy.observe.query import ATTENTION, Query
from proxy.observe.status import Entry, entry
from proxy.services import Services
from proxy.store.base import AccountId, Outline, Record, outline
from proxy.tokens.account import Account
from proxy.tokens.refresh.throttle import ServerThrottle
from proxy.tokens.saved.records import view

AT_ONCE: Final = 500  # records read at once for the index: 2 ms, in which no request is served
ROWS: Final = 500  # accounts kept after they were read, 3 KiB each ...
ROWS_FOR: Final = 10.0  # ... for so many seconds: a due time may be put off without a signal
IDLE: Final = 600.0  # seconds without a look until the index is dropped
CLOCK_SET: Final = 1.0  # seconds; two clocks that differ by more than before: one was set


class Page(NamedTuple):
    entries: list[Entry]
    next: str | None
    counts: dict[str, dict[str, int]]  # of all accounts, by credential and state
    attention: int  # of all accounts, those that need it


class Listing:
    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._clock = services.clock
        self._store = services.store
        self._tokens = services.tokens
        self._named = frozenset(named(services.config))
        self._index: AccountIndex | None = None
        self._changes = services.tokens.changes.subscribe()
        self._rows: dict[AccountId, Account] = {}  # read lately, as the same page is often looked at again
        self._rows_since = 0.0  # the event loop's clock
        self._missed: set[AccountId] = set()  # changed while the store could not be read
        self._clocks_apart = 0.0  # wall clock minus boot clock, when the index was made
        self._looked_at = 0.0  # the event loop's clock
        self._drop: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    async def page(self, query: Query) -> Page:
        self._keep_for_a_while()
        async with self._turn:
            index = await self._up_to_date()
            names, after = index.page(query)
            entries = [entry(each, self._config) for each in await self._accounts(names)]
            for name, shown in zip(names, entries, strict=True):
                self._correct(index, name, shown)
            counts = {name: dict(index.counts.get(name, {})) for name in self._config.credentials}
            fitting = [shown for shown in entries if _fits(shown, query)]
            return Page(fitting, str(after) if after else None, counts, index.attention)

    def drop(self) -> None:
        """Free the memory of the index; the next page makes another."""
        self._index = None
        self._rows.clear()
        if self._drop is not None:
            self._drop.cancel()
            self._drop = None

    def _keep_for_a_while(self) -> None:
        loop = asyncio.get_running_loop()
        self._looked_at = loop.time()
        if self._looked_at > self._rows_since + ROWS_FOR or len(self._rows) > ROWS:
            self._rows_since = self._looked_at
            self._rows.clear()
        if self._drop is None:
            self._drop = loop.call_later(IDLE, self._drop_if_idle)

    def _drop_if_idle(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._looked_at + IDLE:
            self.drop()
        else:
            self._drop = loop.call_at(self._looked_at + IDLE, self._drop_if_idle)

    # -- the index

    async def _up_to_date(self) -> AccountIndex:
        changed, index = self._changes.take(), self._index
        apart = self._clock.wall() - self._clock.boot()
        if index is None or changed is None or abs(apart - self._clocks_apart) > CLOCK_SET:
            self._clocks_apart = apart
            return await self._made()
        missed, self._missed = self._missed, set()
        for key in changed | missed:
            self._rows.pop(key, None)
            await self._look_at(index, key)
        for name, line in index.due(self._clock.boot()):
            key = key_of(name)
            account = self._tokens.shown(key)
            stored = Outline(key, "valid", line.due_at, line.expires_at)
            index.set(name, self._line(account) if account else self._stored_line(stored))
        return index

    async def _made(self) -> AccountIndex:
        """If the store can't be read, it has what is in memory, and is made again for the next page."""
        self._index, after, is_whole = None, None, True
        self._missed.clear()
        self._rows.clear()
        lines: dict[str, Line] = {}
        try:
            while outlines := await self._store.outlines(after, AT_ONCE):
                lines |= {
                    name_of(each.key): self._stored_line(each)
                    for each in outlines
                    if self._is_stored(each.key)
                }
                after = outlines[-1].key
        except StoreError:
            is_whole = False
        for key in self._named:
            if name_of(key) not in lines:
                lines[name_of(key)] = self._line(self._account(key, None))
        for account in self._tokens.accounts():
            lines[name_of(account.key)] = self._line(account)
        index = AccountIndex(lines)
        self._index = index if is_whole else None
        return index

    async def _look_at(self, index: AccountIndex, key: AccountId) -> None:
        account, name = self._tokens.shown(key), name_of(key)
        if account is not None:
            index.set(name, self._line(account))
            return
        try:
            record = await self._store.get(key) if self._is_stored(key) else None
        except UnreadableRecord:
            index.set(name, Line("misconfigured", attention=True))
        except StoreError:
            self._missed.add(key)
        else:
            if record is not None:
                index.set(name, self._stored_line(outline(record)))
            else:
                index.set(name, self._line(self._account(key, None)) if key in self._named else None)

    def _is_stored(self, key: AccountId) -> bool:
        return self._config.is_stored(key.credential) and is_indexable(key)

    def _line(self, account: Account) -> Line:
        now, token = self._clock.boot(), account.held.token
        until = min((time for time in (account.fresh_until, account.usable_until) if time > now), default=inf)
        expires_at = token.expires_at if token else None
        return Line(account.state(), account.needs_attention, until, account.held.due_at, expires_at)

    def _stored_line(self, stored: Outline) -> Line:
        grant = grants.of(self._config.credentials[stored.key.credential])
        now = self._clock.wall()
        return stored_line(
            stored, renews_itself=grant.renews_itself, now=now, clocks_apart=now - self._clock.boot()
        )

    # -- the accounts of a page

    async def _accounts(self, names: list[str]) -> list[Account]:
        keys = [key_of(name) for name in names]
        found = {key: account for key in keys if (account := self._tokens.shown(key) or self._rows.get(key))}
        missing = [key for key in keys if key not in found]
        try:
            records = {each.key: each for each in await self._store.get_many(missing)} if missing else {}
        except StoreError:
            return [found.get(key) or self._unread(key) for key in keys]
        for key in missing:
            found[key] = self._rows[key] = self._account(key, records.get(key))
        return [found[key] for key in keys]

    def _correct(self, index: AccountIndex, name: str, shown: Entry) -> None:
        """The line of an account, if it is in another state than its record says in clear."""
        line, account = index.get(name), self._rows.get(key_of(name))
        if line is None or account is None or line.group == (shown["needs_attention"], shown["state"]):
            return
        index.set(name, self._line(account))

    def _account(self, key: AccountId, record: Record | None) -> Account:
        """An account that is not in memory, from its record. It is not kept in memory."""
        account = self._unread(key)
        try:
            account.apply(view(record, account.credential, self._clock))
        except UnreadableRecord:
            account.unreadable = True
        return account

    def _unread(self, key: AccountId) -> Account:
        throttle = ServerThrottle(self._clock, self._config.limits.authorization_server_rate)
        return Account(key, self._config.credentials[key.credential], self._clock, throttle)


def named(config: Config) -> Iterator[AccountId]:
    """The accounts named by routes, and `default` of credentials that no route uses."""
    routed = {route.credential for route in config.routes}
    for route in config.routes:
        if isinstance(route.account, str):
            yield AccountId(route.credential, route.account)
    for name in config.credentials:
        if name not in routed:
            yield AccountId(name, "default")


def _fits(shown: Entry, query: Query) -> bool:
    """Whether it is in the state that was asked for, if any; the index may not have known."""
    if query.state == ATTENTION:
        return shown["needs_attention"]
    return query.state in {"", shown["state"]}
