"""The tokens of this process: `ready`, `get`, `reject`, `adopt`, `forget`.

One flight per account here (refreshes.py), one lease across processes (flight.py). What other processes
write is seen within a second (`_watch`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import replace
from typing import Final

from proxy import tasks
from proxy.clock import Clock
from proxy.config.model import Config, Credential
from proxy.errors import GenerationConflict
from proxy.metrics import Metrics, TokenHealth
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.token import Token
from proxy.store.base import Key, Store
from proxy.tokens import codec, lease, life, notices, records
from proxy.tokens.account import NEVER, Account, Held, Served
from proxy.tokens.accounts import Accounts
from proxy.tokens.flight import Tower
from proxy.tokens.refreshes import Refreshes

REJECT_PAUSE: Final = 30.0  # seconds between two refreshes that a 401 starts: it may not be the token's fault
REMIND_EVERY: Final = 60.0  # seconds between two looks for refresh tokens that end
KNOWN_AT_START: Final = 1000  # accounts loaded for metrics and for refreshing ahead


class TokenManager:
    def __init__(
        self, config: Config, store: Store, servers: AuthorizationServers, clock: Clock, metrics: Metrics
    ) -> None:
        self._config = config
        self._store = store
        self._servers = servers
        self._clock = clock
        self._metrics = metrics
        self._accounts = Accounts(config, store, clock)
        tower = Tower(store, servers, clock, lease.this_process(clock.boot_id), self._attempted)
        self._refreshes = Refreshes(tower, self._accounts, clock)
        self._patience = config.limits.token_wait
        self._waiting = {name: metrics.token_wait.labels(name) for name in config.credentials}
        self._watcher: asyncio.Task[None] | None = None
        self._reminder: asyncio.Task[None] | None = None

    # -- life of the manager

    async def start(self) -> None:
        """Load what is stored and follow what others change. Raises StoreError."""
        changes = self._store.changes()  # before loading: what is put meanwhile must not slip by
        for account in self._accounts.fixed.values():
            await self._accounts.load_quietly(account)
        for record in await self._store.page(None, KNOWN_AT_START):
            if record.key.credential in self._config.credentials:
                await self._accounts.remember(record)
        self._watcher = tasks.spawn(self._watch(changes), "watch the store")
        self._reminder = tasks.spawn(self._remind(), "tell of refresh tokens that end")

    async def close(self, grace: float) -> None:
        """Stop; flights get `grace` seconds to save what they have been given."""
        await tasks.cancel(self._watcher, self._reminder)
        await self._refreshes.close(grace)

    async def _watch(self, changes: AsyncIterator[Key | None]) -> None:
        async for key in changes:
            if key is None:
                for account in self.accounts():
                    await self._accounts.load_quietly(account)
            elif key.credential in self._config.credentials:
                await self._accounts.load_quietly(self._accounts.get(key))

    async def _remind(self) -> None:
        while True:
            for account in self.accounts():
                notices.remind(account, self._clock.wall())
            await asyncio.sleep(REMIND_EVERY)

    # -- what a request asks

    def account(self, credential: str, name: str) -> Account:
        """The account's state in this process; made, and not yet loaded, when it is new."""
        return self._accounts.get(Key(credential, name))

    def ready(self, account: Account) -> Served | None:
        """The token, if it can be attached at once. A stale one is served while a refresh runs behind."""
        now = self._clock.boot()
        if now < account.fresh_until:
            return account.served
        if now >= account.usable_until:
            return None
        self.refresh_behind(account)
        return account.served

    def refresh_behind(self, account: Account) -> None:
        """Start a flight that nobody waits for, unless one is under way, held back or of no use."""
        if account.flight is None and account.may_start:
            self._refreshes.start(account)

    async def get(self, account: Account) -> Served:
        """The token, waited for if need be. Raises TokenError."""
        started = self._clock.boot()
        try:
            return await self._get(account)
        finally:
            self._waiting[account.key.credential].observe(self._clock.boot() - started)

    async def _get(self, account: Account) -> Served:
        if not account.loaded:
            await self._accounts.load(account)
        served = self.ready(account)
        if served is not None:
            return served
        if account.flight is None and not account.may_start:
            raise account.why_not()
        await self._refreshes.wait(account, self._patience)
        served = self.ready(account)
        if served is None:
            raise account.why_not()
        return served

    def reject(self, account: Account, rejected: Served) -> Awaitable[Served | None] | None:
        """An upstream answered 401 to `rejected`. None: pass the answer on. Else: await what to replay with.

        A token that was replaced meanwhile asks for no refresh; the current one for one in 30 seconds, and
        who comes while a refresh is under way shares what it brings.
        """
        current = self.ready(account)
        if current is not None and current is not rejected:
            return _done(current)
        if account.flight is None:
            now = self._clock.boot()
            if now < account.rejected_at + REJECT_PAUSE or not account.may_start:
                return None
            account.rejected_at = now
            account.refused()
            self._refreshes.start(account)
        return tasks.spawn(self._replacement(account, rejected), f"replace {account.key}")

    async def _replacement(self, account: Account, rejected: Served) -> Served | None:
        await self._refreshes.wait(account, self._patience)
        served = self.ready(account)
        return None if served is rejected else served

    # -- what a person or a command does

    async def refresh_now(self, account: Account) -> None:
        """Refresh whatever the token's age. Raises TokenError."""
        if not account.loaded:
            await self._accounts.load(account)
        if not account.can_refresh:
            raise account.why_not()
        before = account.held.generation
        account.hold_until = NEVER
        await self._refreshes.wait(account, self._patience)
        if account.held.generation == before or not account.can_refresh:
            raise account.why_not()

    async def adopt(self, key: Key, token: Token) -> None:
        """A login gave this token: it replaces whatever the store holds. Raises StoreError."""
        account = self._accounts.get(key)
        token = replace(token, login_at=token.issued_at)
        due_at = records.due_at(account.credential, token)
        while True:
            record = await self._store.get(key)
            stored = record.generation if record else 0
            held = Held(max(stored, account.held.generation) + 1, "valid", token, due_at)
            try:
                await records.put(self._store, key, held, expected=stored)
            except GenerationConflict:
                continue
            account.breaker.succeeded()
            notices.narrowed(key, account.credential, token, None)
            held = await records.dated(self._store, self._servers, account.credential, key, held)
            self._accounts.take(account, held)
            return

    async def forget(self, key: Key) -> Token | None:
        """Leave a tombstone instead of the tokens, and return them, to be revoked. Raises StoreError."""
        account = self._accounts.get(key)
        while True:
            record = await self._store.get(key)
            if record is None or record.state == "logged_out":
                return None
            token = codec.decode(record.body)
            tombstone = records.tombstone(record, token)
            try:
                await self._store.put(tombstone, expected=record.generation)
            except GenerationConflict:
                continue
            self._accounts.take(account, Held(tombstone.generation, tombstone.state, None, None))
            return token if records.is_bound(token, account.credential) else None

    # -- for the refresher, and for who shows how the tokens are

    async def refresh_if_due(self, key: Key) -> float:
        """Start a refresh that is due. Returns in how many seconds to ask again; infinity: not at all."""
        account = self._accounts.get(key)
        if not account.loaded:
            await self._accounts.load_quietly(account)
        if account.unreadable or (account.loaded and not account.can_refresh):
            return float("inf")
        account.look_at_the_clock()
        until_due = account.fresh_until - self._clock.boot()
        if until_due > 0 and not account.unsettled:
            return until_due
        self.refresh_behind(account)
        return 0.0

    def restless(self) -> list[Key]:
        """Accounts to look after though no token of theirs is due: unread, or a refresh is in doubt."""
        return [
            account.key
            for account in self.accounts()
            if account.unsettled or not (account.loaded or account.unreadable)
        ]

    @property
    def refreshes_under_way(self) -> int:
        return self._refreshes.under_way

    def accounts(self) -> list[Account]:
        """Every account known to this process."""
        return self._accounts.known()

    def health(self) -> Iterator[TokenHealth]:
        """How every account known to this process is."""
        return map(_health, self.accounts())

    def _attempted(self, credential: Credential, outcome: str, error: str, seconds: float) -> None:
        self._metrics.token_refreshes.labels(credential.name, outcome, error).inc()
        self._metrics.token_refresh_duration.labels(credential.name).observe(seconds)


def _health(account: Account) -> TokenHealth:
    token = account.held.token
    issued = token if token and token.access_token else None
    return TokenHealth(
        credential=account.key.credential,
        account=account.key.account,
        state=account.state(),
        issued_at=issued.issued_at if issued else None,
        expires_at=issued.expires_at if issued else None,
        refresh_due_at=account.held.due_at,
        refresh_expires_at=life.refresh_ends_at(token, account.credential) if token else None,
        last_success_at=account.last_success_at,
        failures=account.failures,
    )


def _done(served: Served) -> Awaitable[Served]:
    """Known at once; and nothing is left over where nobody awaits it."""
    future: asyncio.Future[Served] = asyncio.get_running_loop().create_future()
    future.set_result(served)
    return future
