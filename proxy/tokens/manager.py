"""The tokens of this process: `ready`, `get`, `reject`, `adopt`, `forget`.

One refresh per account here (refresh/single_flight.py), one lease across processes (refresh/lease.py).
Changes by other processes are seen within a second (store_changes.py).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from typing import Final

from proxy import tasks
from proxy.clock import Clock
from proxy.config.model import Config, Credential
from proxy.errors import GenerationConflict, TokenError
from proxy.oauth import binding, client_auth, grants
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.token import Principal, Token
from proxy.observe.events import decision
from proxy.observe.metrics import Metrics
from proxy.observe.token_metrics import TokenHealth
from proxy.secret import Secret
from proxy.store.base import AccountId, Store
from proxy.tokens import health
from proxy.tokens.account import NEVER, Account
from proxy.tokens.accounts import Accounts
from proxy.tokens.adoption import Adoption, AnotherClient
from proxy.tokens.attachment import Attachment, at_once
from proxy.tokens.changes import Changes
from proxy.tokens.clients import Clients
from proxy.tokens.diagnosis.failures import row_of
from proxy.tokens.exchanged import Exchanged
from proxy.tokens.last_attempts import FailedLogin
from proxy.tokens.refresh import lease
from proxy.tokens.refresh.context import RefreshContext
from proxy.tokens.refresh.scheduler import RefreshScheduler
from proxy.tokens.refresh.single_flight import SingleFlight, Why
from proxy.tokens.reminders import REMIND, Reminders
from proxy.tokens.saved import records, tombstones
from proxy.tokens.store_changes import WATCH, StoreChanges
from proxy.tokens.stored_token import StoredToken

TOLD_AGAIN: Final = 10.0  # seconds until another 401 to the same token is told as a change of the account
REJECT_PAUSE: Final = 30.0  # seconds between two refreshes that a 401 starts: the token may not be the cause

# Looks the secrets of a credential up again. None: it has none that are looked up, or that was just done.
LookUp = Callable[[str], Awaitable[None] | None]

_log = logging.getLogger("proxy.tokens")


class TokenManager:
    def __init__(
        self, config: Config, store: Store, servers: AuthorizationServers, clock: Clock, metrics: Metrics
    ) -> None:
        self._config = config
        self._store = store
        self.clock = self._clock = clock
        self._metrics = metrics
        self._accounts = Accounts(config, store, clock)
        me = f"{lease.this_process(clock.boot_id)}/{secrets.token_hex(4)}"  # tests have several in a process
        self.clients = Clients(store, servers, clock, me)
        context = RefreshContext(store, servers, self.clients, clock, me, self._attempted)
        metrics.tokens_unsaved.set_function(lambda: len(context.unsaved))
        self._exchanged = Exchanged(clock)
        self._single_flight = SingleFlight(context, self._accounts, clock)
        self._reminders = Reminders(self.accounts, self._changed, self._login_url, clock)
        self.scheduler = RefreshScheduler(
            self._accounts, self.refresh_behind, store, clock, idle_after=config.limits.account_idle
        )
        self._patience = config.limits.token_wait
        self.look_up: LookUp = lambda _credential: None  # as for commands: they have just read it
        self._adoption = Adoption(store, servers, clock, lambda: self._accounts)
        self._changes = StoreChanges(store, lambda: self._accounts)
        self._watcher: asyncio.Task[None] | None = None
        self._reminder: asyncio.Task[None] | None = None

    # -- reload

    def planned(self, config: Config) -> Accounts:
        """The accounts as another configuration will have them. Nothing is changed yet."""
        return Accounts(config, self._store, self._clock, self._accounts)

    def use(self, config: Config, accounts: Accounts) -> None:
        """Serve another configuration from now on. Can't fail: nothing here may raise.

        `accounts`: as planned, without an await in between.
        """
        accounts.begin()
        self._config, self._accounts = config, accounts
        self._single_flight.use(accounts)
        self.scheduler.use(accounts, config.limits.account_idle)
        self._patience = config.limits.token_wait
        accounts.changes.note(None)

    async def load_new(self) -> None:
        """Load the accounts that are new since `use`. Raises StoreError."""
        await self._accounts.load_known()

    def values_lost(self, credentials: Collection[str]) -> None:
        """Note the credentials whose value in the configuration can't be read now. All others' can."""
        for account in self._accounts.in_memory():
            was_lost, account.is_value_lost = account.is_value_lost, account.key.credential in credentials
            if account.is_value_lost != was_lost:
                self._accounts.changed(account)

    # -- start and close

    async def start(self) -> None:
        """Load the stored accounts and follow changes by other processes. Raises StoreError."""
        self._changes.listen()
        await self._accounts.load_known()
        self._watcher = tasks.forever(WATCH, self._changes.watch)
        self._reminder = tasks.forever(REMIND, self._reminders.remind)

    async def close(self, grace: float) -> None:
        """Stop; refreshes under way get `grace` seconds to save their tokens."""
        await tasks.cancel(self._watcher, self._reminder)
        await self._single_flight.close(grace)

    async def report_logins(self) -> None:
        """In a serving process, for ever: log each account whose tokens have ended, for any reason."""
        await self._reminders.report_logins()

    def _changed(self, account: Account) -> None:
        self._accounts.changed(account)

    def _login_url(self, key: AccountId) -> str:
        return f"{self._config.public_url}/login/{key}"

    async def look_at(self, key: AccountId) -> Account:
        """The account as stored now, or as last known if the store fails."""
        account = self._accounts.get(key)
        await self._accounts.load_quietly(account)
        return account

    # -- for requests

    def account(self, credential: str, name: str) -> Account:
        """The account's state in this process; a new one is not loaded yet."""
        return self._accounts.get(AccountId(credential, name))

    def exchanged(self, credential: str, subject: Secret) -> Account:
        """The account of a caller's own token, which is to be exchanged. Raises TokenError."""
        found = self._config.credentials.get(credential)
        if found is None:
            raise TokenError(f"the configuration no longer has the credential {credential!r}")
        return self._exchanged.account(found, self._accounts.throttles[credential], subject)

    def ready(self, account: Account) -> Attachment | None:
        """The token, if it can be attached at once. A stale one is used while a refresh runs behind it."""
        now = account.used_at = self._clock.boot()
        if now < account.fresh_until:
            return account.attachment
        if now >= account.usable_until:
            return None
        self.refresh_behind(account)
        return account.attachment

    def refresh_behind(self, account: Account) -> None:
        """Start a refresh in the background, unless one is under way, held back or can't help."""
        if account.flight is None and account.may_start:
            self._single_flight.start(account, self._why(account))

    def _why(self, account: Account) -> Why:
        if account.attachment is None:
            return "first"
        return "due" if account.is_usable else "expired"

    async def get(self, account: Account) -> Attachment:
        """The token; waits for a refresh if necessary. Raises TokenError."""
        started = self._clock.boot()
        try:
            return await self._get(account)
        finally:
            wait = self._metrics.token_wait.labels(account.key.credential)
            wait.observe(self._clock.boot() - started)

    async def _get(self, account: Account) -> Attachment:
        attachment = self.ready(account)
        if attachment is None and account.behind and account.flight is None:
            decision(_log, "%s: no usable token in memory: the store is read", account.key)
            await self._accounts.load(account)
            self._accounts.remember(account)
            attachment = self.ready(account)
        if attachment is not None:
            return attachment
        if account.flight is None and not account.may_start:
            decision(_log, "%s: no usable token, and no refresh now", account.key)
            raise account.why_not()
        decision(_log, "%s: no usable token: the request waits for a refresh", account.key)
        await self._single_flight.wait(account, self._patience, self._why(account))
        attachment = self.ready(account)
        if attachment is None:
            raise account.why_not()
        return attachment

    def reject(self, account: Account, rejected: Attachment) -> Awaitable[Attachment | None] | None:
        """Handle a 401 to `rejected`. None: pass the response on. Else await the token for a replay.

        A 401 to a replaced token starts no refresh; 401s to the current one start one per REJECT_PAUSE, and
        callers that arrive while a refresh is under way share its result.
        """
        current = self.ready(account)
        if current is not None and current is not rejected:
            decision(_log, "%s: 401 to a token that has been replaced: the request is replayed", account.key)
            return at_once(current)
        if rejected is account.attachment:
            self._unauthorized(account)
        if account.grant.is_fixed:
            looking = self.look_up(account.key.credential)
            return tasks.spawn(self._looked_up(account, rejected, looking), "look up") if looking else None
        is_news = rejected is account.attachment and account.reject()
        if account.flight is None:
            now = self._clock.boot()
            if is_news:
                # this only writes the rejection to the store: nothing to wait for
                self._single_flight.start(account, "rejected")
                return None
            if now < account.rejected_at + REJECT_PAUSE or not account.may_start:
                decision(_log, "%s: 401 passes: no refresh now", account.key)
                return None
            account.rejected_at = now
            account.learn_from_401()
            self._single_flight.start(account, "rejected")
        return tasks.spawn(self._replacement(account, rejected), f"replace {account.key}")

    def _unauthorized(self, account: Account) -> None:
        before, account.unauthorized_at = account.unauthorized_at, self._clock.wall()
        if before is None or account.unauthorized_at > before + TOLD_AGAIN:
            self._accounts.changed(account)

    async def _looked_up(
        self, account: Account, rejected: Attachment, looking: Awaitable[None]
    ) -> Attachment | None:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(looking), self._patience)
        attachment = self.ready(account)
        return None if attachment is rejected else attachment

    async def _replacement(self, account: Account, rejected: Attachment) -> Attachment | None:
        await self._single_flight.wait(account, self._patience, "rejected")
        attachment = self.ready(account)
        return None if attachment is rejected else attachment

    # -- for people and commands

    async def refresh_now(self, account: Account) -> None:
        """Refresh now, whatever the token's age. Raises TokenError."""
        if account.behind:
            await self._accounts.load(account)
        if not account.can_refresh:
            raise account.why_not()
        before = account.held.generation
        account.hold_until = NEVER
        account.throttle.try_now(account.key)
        joined = account.flight is not None  # it may have started before the newest token was known
        await self._single_flight.wait(account, self._patience, "person")
        if joined and account.held.generation == before and account.failure is None:
            await self._single_flight.wait(account, self._patience, "person")
        if account.held.generation == before or account.failure is not None:
            raise account.why_not()

    async def adopt(self, key: AccountId, token: Token, *, instead_of: Principal | None = None) -> None:
        """Store the token of a login in place of the stored one.

        Tokens of another person are replaced only if that person is `instead_of`. Raises StoreError,
        AnotherPerson, AnotherClient.
        """
        await self._adoption.adopt(self._account_for(key, token), token, instead_of)

    def login_ended(self, key: AccountId, outcome: str, error: str = "", sentence: str = "") -> None:
        """Note the end of a login. `error`, `sentence`: the code of its failure, and what it means."""
        self._metrics.logins.labels(key.credential, outcome).inc()
        account = self._accounts.find(key)
        if account is not None:
            account.failed_login = FailedLogin(self._clock.wall(), error, sentence) if error else None
            account.unauthorized = account.unauthorized if error else None
            self._accounts.changed(account)

    def _account_for(self, key: AccountId, token: Token) -> Account:
        """The account, if its client is the token's: another's must not replace what it has."""
        if key.credential in self._config.credentials:
            account = self._accounts.get(key)
            if binding.is_bound(token, account.credential):
                return account
        raise AnotherClient

    async def owner(self, key: AccountId) -> Principal | None:
        """The person who logged in to the account; None: nobody, or unknown. Raises StoreError."""
        account = self._accounts.get(key)
        return records.owner(await self._store.get(key), account.held, account.credential)

    async def forget(self, key: AccountId) -> Token | None:
        """Replace the tokens by a tombstone, and return them to be revoked. Raises StoreError."""
        account = self._accounts.get(key)
        while True:
            try:
                tombstone, token = await tombstones.replace_tokens(self._store, account, self._clock)
            except GenerationConflict:
                continue
            if tombstone is None:
                return None
            self._accounts.apply(account, StoredToken(tombstone.generation, tombstone.state, None, None))
            return token if token and binding.is_bound(token, account.credential) else None

    # -- for status and metrics

    def accounts(self) -> list[Account]:
        """Every account known to this process."""
        return self._accounts.known()

    def shown(self, key: AccountId) -> Account | None:
        """The account, if this process knows it."""
        return self._accounts.shown(key)

    @property
    def changes(self) -> Changes:
        """The signal that an account has changed. Reloads keep it."""
        return self._accounts.changes

    @property
    def account_labels(self) -> int:
        """The number of accounts of a credential up to which metrics show them by name."""
        return self._config.limits.account_labels

    def health(self) -> Iterator[TokenHealth]:
        """The health of every account known to this process."""
        return map(health.of, self.accounts())

    def clock_skews(self) -> Iterator[tuple[str, float]]:
        """For each credential, how far (seconds) its server's clock is ahead of ours, where that is known."""
        return health.clock_skews(self._config.credentials.values(), self._clock)

    def client_secret_ends(self) -> Iterator[tuple[str, float]]:
        """For each credential, when its client secret expires (Unix seconds), where that is known."""
        return health.client_secret_ends(self._config.credentials.values(), self.accounts())

    def _attempted(self, credential: Credential, outcome: str, error: str, seconds: float) -> None:
        self._metrics.token_requested(credential.name, outcome, error and row_of(error), seconds)
        is_secret_refused = (
            error == "invalid_grant" and grants.of(credential).renews_itself
        )  # or its password
        if error in client_auth.REFUSALS or is_secret_refused:
            self.look_up(credential.name)
