"""The tokens of this process: `ready`, `get`, `reject`, `adopt`, `forget`.

One flight per account here, one lease across processes (flight.py). A flight is a task of its own: a
caller that hangs up leaves it flying. What other processes write is seen within a second (`_watch`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator
from typing import Final

from proxy import tasks
from proxy.clock import Clock
from proxy.config.model import Config, Credential
from proxy.errors import (
    AuthorizationServerError,
    GenerationConflict,
    StoreError,
    TokenUnavailable,
    UnreadableRecord,
)
from proxy.metrics import Metrics, TokenHealth
from proxy.oauth.endpoint import AuthorizationServers, server_of
from proxy.oauth.token import Token
from proxy.store.base import Key, Record, Store
from proxy.tokens import codec, flight, lease
from proxy.tokens.account import NEVER, NOTHING, Account, LastRefresh, Served
from proxy.tokens.flight import Tower

REJECT_PAUSE: Final = (
    30.0  # seconds between two refreshes that a 401 starts: an upstream may refuse every token
)
STORE_PAUSE: Final = 5  # seconds told to a caller whose token can't be read from the store
KNOWN_AT_START: Final = 1000  # accounts loaded for metrics and for refreshing ahead

_log = logging.getLogger("proxy.tokens")


class TokenManager:
    def __init__(
        self, config: Config, store: Store, servers: AuthorizationServers, clock: Clock, metrics: Metrics
    ) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._tower = Tower(store, servers, clock, lease.this_process(clock.boot_id), self._attempted)
        self._accounts: dict[Key, Account] = {}
        self._waiting = {name: metrics.token_wait.labels(name) for name in config.credentials}
        self._watcher: asyncio.Task[None] | None = None

    # -- life of the manager

    async def start(self) -> None:
        """Load what is stored and follow what others change. Raises StoreError."""
        for route in self._config.routes:
            if isinstance(route.account, str):
                await self._load_quietly(self.account(route.credential, route.account))
        for record in await self._store.page(None, KNOWN_AT_START):
            if record.key.credential in self._config.credentials:
                await self._load_quietly(self.account(*record.key))
        self._watcher = tasks.spawn(self._watch(), "watch the store")

    async def close(self, grace: float) -> None:
        """Stop; flights get `grace` seconds to save what they have been given."""
        await tasks.cancel(self._watcher)
        flights = [account.flight for account in self._accounts.values() if account.flight is not None]
        if flights:
            await asyncio.wait(flights, timeout=grace)
            await tasks.cancel(*flights)

    async def _watch(self) -> None:
        async for key in self._store.changes():
            stale = [self._accounts.get(key)] if key else self.accounts()
            if key and key.credential in self._config.credentials and key not in self._accounts:
                stale = [self.account(*key)]
            for account in stale:
                if account is not None:
                    await self._load_quietly(account)

    # -- what a request asks

    def account(self, credential: str, name: str) -> Account:
        """The account's state in this process; made, and not yet loaded, when it is new."""
        key = Key(credential, name)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(key, self._config.credentials[credential], self._clock)
        return account

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
        if account.flight is None and account.can_refresh and not account.on_hold:
            self._start_flight(account)

    async def get(self, account: Account) -> Served:
        """The token, waited for if need be. Raises TokenError."""
        started = self._clock.boot()
        try:
            return await self._get(account)
        finally:
            self._waiting[account.key.credential].observe(self._clock.boot() - started)
            if account.held is NOTHING and account.credential.grant != "client_credentials":
                self._accounts.pop(account.key, None)  # a name that nobody logged in to takes no room

    async def _get(self, account: Account) -> Served:
        if not account.loaded:
            await self.load(account)
        served = self.ready(account)
        if served is not None:
            return served
        if account.flight is None:
            if not account.can_refresh or account.on_hold:
                raise account.why_not()
            self._start_flight(account)
        assert account.flight is not None
        await asyncio.wait((account.flight,), timeout=self._config.limits.token_wait)
        served = self.ready(account)
        if served is None:
            raise account.why_not()
        return served

    def reject(self, account: Account, rejected: Served) -> Awaitable[Served | None] | None:
        """An upstream answered 401 to `rejected`. None: pass the answer on. Else: await what to replay with.

        A token that was replaced meanwhile asks for no refresh; the current one for one in 30 seconds.
        """
        current = self.ready(account)
        if current is not None and current is not rejected:
            return _result(current)
        now = self._clock.boot()
        if now < account.rejected_at + REJECT_PAUSE or not account.can_refresh:
            return None
        account.rejected_at = now
        return tasks.spawn(self._replacement(account, rejected), f"replace {account.key}")

    async def _replacement(self, account: Account, rejected: Served) -> Served | None:
        if account.flight is None:
            self._start_flight(account)
        assert account.flight is not None
        await asyncio.wait((account.flight,), timeout=self._config.limits.token_wait)
        served = self.ready(account)
        return None if served is rejected else served

    # -- what a person or a command does

    async def refresh_now(self, account: Account) -> None:
        """Refresh whatever the token's age. Raises TokenError."""
        if not account.loaded:
            await self.load(account)
        if not account.can_refresh:
            raise account.why_not()
        account.hold_until = NEVER
        before = account.held.generation
        if account.flight is None:
            self._start_flight(account)
        assert account.flight is not None
        await asyncio.wait((account.flight,), timeout=self._config.limits.token_wait)
        if account.held.generation == before:
            raise account.why_not()

    async def adopt(self, key: Key, token: Token) -> None:
        """A login gave this token: it replaces whatever the store holds. Raises StoreError."""
        account = self.account(*key)
        while True:
            record = await self._store.get(key)
            expected = record.generation if record else 0
            held = await flight.save(self._tower, account.credential, key, token, expected=expected)
            account.take(held)
            if held.token == token:
                return

    async def forget(self, key: Key) -> Token | None:
        """Leave a tombstone instead of the tokens, and return them, to be revoked. Raises StoreError."""
        account = self.account(*key)
        while True:
            record = await self._store.get(key)
            if record is None or record.state == "logged_out":
                account.take(await flight.read(self._tower, account.credential, key))
                return None
            token = codec.decode(record.body)
            try:
                await self._store.put(_tombstone(record, token), expected=record.generation)
            except GenerationConflict:
                continue
            await self.load(account)
            bound = token.server == server_of(account.credential)
            return token if bound and token.client_id == account.credential.client_id else None

    def accounts(self) -> list[Account]:
        """Every account known to this process."""
        return list(self._accounts.values())

    def health(self) -> Iterator[TokenHealth]:
        """Every account known to this process."""
        for account in self.accounts():
            token = account.held.token
            has_access = token is not None and token.access_token is not None
            yield TokenHealth(
                credential=account.key.credential,
                account=account.key.account,
                state=account.state(),
                issued_at=token.issued_at if token and has_access else None,
                expires_at=token.expires_at if token and has_access else None,
                refresh_due_at=account.held.due_at,
                refresh_expires_at=token.refresh_expires_at if token else None,
                last_success_at=account.last_success_at,
                failures=account.failures,
            )

    # -- flights and loading

    def _start_flight(self, account: Account) -> None:
        account.flight = tasks.spawn(self._fly(account), f"refresh {account.key}")

    async def _fly(self, account: Account) -> None:
        before = account.held.generation
        try:
            held = await flight.refresh(self._tower, account.credential, account.key, before)
        except AuthorizationServerError as error:
            self._failed(account, error)
        except StoreError as error:
            self._failed(account, AuthorizationServerError("transient", "store"))
            _log.error("%s can't be refreshed: %s", account.key, error)
        else:
            account.take(held)
            if held.generation != before and held.state == "valid":
                self._succeeded(account)
        finally:
            account.flight = None

    def _succeeded(self, account: Account) -> None:
        account.last_success_at = self._clock.wall()
        account.last_refresh = LastRefresh(account.last_success_at, "success", "")
        _log.info(
            "refreshed %s, generation %d",
            account.key,
            account.held.generation,
            extra={"event": "refresh", "credential": account.key.credential, "account": account.key.account},
        )

    def _failed(self, account: Account, error: AuthorizationServerError) -> None:
        account.failed(error)
        account.last_refresh = LastRefresh(self._clock.wall(), error.outcome, error.error)
        _log.warning(
            "refresh of %s failed: %s (%s); next try in %.0f s",
            account.key,
            error.error,
            error.outcome,
            account.hold_until - self._clock.boot(),
            extra={"event": "refresh", "credential": account.key.credential, "account": account.key.account},
        )

    async def load(self, account: Account) -> None:
        """Take over what the store holds. Raises TokenUnavailable."""
        try:
            held = await flight.read(self._tower, account.credential, account.key)
        except UnreadableRecord as error:
            _log.error("%s: %s", account.key, error)
            raise TokenUnavailable(str(error), retry_after=STORE_PAUSE) from error
        except StoreError as error:
            raise TokenUnavailable("the token store can't be read now", retry_after=STORE_PAUSE) from error
        if held.generation >= account.held.generation:
            account.take(held)

    async def _load_quietly(self, account: Account) -> None:
        try:
            await self.load(account)
        except TokenUnavailable as error:
            _log.error("%s: %s", account.key, error)

    def _attempted(self, credential: Credential, outcome: str, error: str, seconds: float) -> None:
        self._metrics.token_refreshes.labels(credential.name, outcome, error).inc()
        self._metrics.token_refresh_duration.labels(credential.name).observe(seconds)


async def _result(served: Served) -> Served:
    return served


def _tombstone(record: Record, token: Token) -> Record:
    """A record of a higher generation that holds no tokens, but remembers the seed that was logged out."""
    empty = Token(
        access_token=None,
        refresh_token=None,
        server=token.server,
        client_id=token.client_id,
        issued_at=token.issued_at,
        issued_boot=token.issued_boot,
        boot_id=token.boot_id,
        seed=token.seed,
    )
    return Record(record.key, record.generation + 1, "logged_out", None, None, codec.encode(empty))
