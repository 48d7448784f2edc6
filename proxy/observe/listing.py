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
from proxy.tokens.account_facts import needs_attention
from proxy.tokens.refresh.throttle import ServerThrottle
from proxy.tokens.saved.records import view

AT_ONCE: Final = 500  # accounts put into the index at once: some 2 ms, in which no request is served
ROWS: Final = 500  # accounts kept after they were read, 3 KiB each
ROWS_FOR: Final = 10.0  # seconds that a row is kept: a due time may be put off without a signal
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
        credentials = self._config.credentials.items()
        self._renews_itself = {name: grants.of(credential).renews_itself for name, credential in credentials}
        self._index: AccountIndex | None = None
        self._changes = services.tokens.changes.subscribe()
        self._rows: dict[AccountId, Account] = {}  # read lately, as the same page is often looked at again
        self._forget: asyncio.TimerHandle | None = None
        self._unseen: set[AccountId] = set()  # changed since the index was brought up to date
        self._clocks_apart = 0.0  # wall clock minus boot clock, when the index was made
        self._looked_at = 0.0  # the event loop's clock
        self._drop: asyncio.TimerHandle | None = None
        self._turn = asyncio.Lock()

    async def page(self, query: Query) -> Page:
        self._keep_for_a_while()
        async with self._turn:
            index = await self._up_to_date()
            names, after = index.page(query)
            accounts = await self._accounts(names)
            entries = [entry(each, self._config) for each in accounts]
            for account, shown in zip(accounts, entries, strict=True):
                self._correct(index, account, shown)
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
        if len(self._rows) > ROWS:
            self._rows.clear()
        if self._forget is None:
            self._forget = loop.call_later(ROWS_FOR, self._forget_rows)
        if self._drop is None:
            self._drop = loop.call_later(IDLE, self._drop_if_idle)

    def _forget_rows(self) -> None:
        self._rows.clear()
        self._forget = None

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
        self._unseen |= changed  # until they are in the index: this may be cancelled
        for key in list(self._unseen):
            self._rows.pop(key, None)
            await self._look_at(index, key)
        for number, (name, line) in enumerate(index.due(self._clock.boot()), start=1):
            key = key_of(name)
            if line.is_of_record and self._tokens.shown(key) is None:
                index.set(name, self._stored_line(Outline(key, "valid", line.due_at, line.expires_at)))
            else:
                self._unseen.add(key)
                await self._look_at(index, key)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return index

    async def _made(self) -> AccountIndex:
        """If the store can't be read, it has what is in memory, and is made again for the next page."""
        self._index, after, is_whole = None, None, True
        self._unseen.clear()
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
        if len(lines) > AT_ONCE:  # some 50 ms for 20 000: requests are served meanwhile
            index = await asyncio.to_thread(AccountIndex, lines)
        else:
            index = AccountIndex(lines)
        self._index = index if is_whole else None
        return index

    async def _look_at(self, index: AccountIndex, key: AccountId) -> None:
        """Bring it up to date, unless the store can't be read now."""
        account, line = self._tokens.shown(key), None
        if account is not None:
            line = self._line(account)
        else:
            try:
                record = await self._store.get(key) if self._is_stored(key) else None
            except UnreadableRecord:
                line = Line("misconfigured", attention=True)
            except StoreError:
                return
            else:
                if record is not None:
                    line = self._stored_line(outline(record))
                elif key in self._named:
                    line = self._line(self._account(key, None))
        index.set(name_of(key), line)
        self._unseen.discard(key)

    def _is_stored(self, key: AccountId) -> bool:
        return self._config.is_stored(key.credential) and is_indexable(key)

    def _line(self, account: Account) -> Line:
        now = self._clock.boot()
        until = min((time for time in (account.fresh_until, account.usable_until) if time > now), default=inf)
        return Line(account.state(), needs_attention(account), until)

    def _stored_line(self, stored: Outline) -> Line:
        now, renews_itself = self._clock.wall(), self._renews_itself[stored.key.credential]
        return stored_line(
            stored, renews_itself=renews_itself, now=now, clocks_apart=now - self._clock.boot()
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

    def _correct(self, index: AccountIndex, account: Account, shown: Entry) -> None:
        """The line of an account, if it is in another state than its record says in clear."""
        line = index.get(name_of(account.key))
        is_read = account.unreadable or not account.behind
        if is_read and line is not None and line.group != (shown["needs_attention"], shown["state"]):
            index.set(name_of(account.key), self._line(account))

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
