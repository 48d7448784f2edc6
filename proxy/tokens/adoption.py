"""The tokens of a login take the place of those that its account has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from proxy.clock import Clock
from proxy.errors import GenerationConflict, ProxyError
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.token import Principal, Token, differ
from proxy.store.base import Store
from proxy.tokens import log_warnings
from proxy.tokens.account import Account
from proxy.tokens.accounts import Accounts
from proxy.tokens.refresh.introspection import with_lifetime
from proxy.tokens.saved import records
from proxy.tokens.stored_token import StoredToken


class AnotherPerson(ProxyError):
    """The account has the tokens of `owner`, and the tokens to save are another person's."""

    def __init__(self, owner: Principal) -> None:
        super().__init__("the account has the tokens of another person")
        self.owner = owner


class AnotherClient(ProxyError):
    """The account's credential has been removed, or is another client now than that of the tokens to save."""


class Adoption:
    def __init__(
        self, store: Store, servers: AuthorizationServers, clock: Clock, accounts: Callable[[], Accounts]
    ) -> None:
        """`accounts`: those of the configuration at the moment; a reload replaces them."""
        self._store = store
        self._servers = servers
        self._clock = clock
        self._accounts = accounts

    async def adopt(self, account: Account, token: Token, instead_of: Principal | None) -> None:
        """As TokenManager.adopt."""
        key = account.key
        token = replace(token, login_at=token.issued_at)
        due_at = records.due_at(account.credential, token)
        while True:
            record = await self._store.get(key)
            if self._accounts().find(key) is not account:
                raise AnotherClient  # a reload meanwhile
            owner = records.owner(record, account.held, account.credential)
            is_agreed = instead_of is not None and not differ(owner, instead_of)
            if owner and differ(owner, token.principal) and not is_agreed:
                raise AnotherPerson(owner)
            stored = record.generation if record else 0
            held = StoredToken(max(stored, account.held.generation) + 1, "valid", token, due_at)
            try:
                await records.put(self._store, key, held, expected=stored, used_at=self._clock.wall())
            except GenerationConflict:
                continue
            account.throttle.succeeded()
            log_warnings.narrowed(key, account.credential, token, None)
            held = await with_lifetime(self._store, self._servers, account.credential, key, held)
            self._accounts().apply(account, held)
            self._accounts().remember(account)
            return
