"""The refreshes of this process: one flight per account, each a task of its own.

A caller that hangs up leaves it flying, and who comes while it flies shares what it brings.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from proxy import tasks
from proxy.clock import Clock
from proxy.errors import AuthorizationServerError, StoreError
from proxy.tokens.account import Account, LastRefresh, StoredToken
from proxy.tokens.accounts import Accounts
from proxy.tokens.refresh.refresh import Refresh, RefreshContext
from proxy.tokens.refresh.throttle import HeldBack

# Requests of one flight, if the last flight did well: a lost answer is asked for again while servers still
# give it twice, some seconds for most (RFC 9700 section 4.14.2). After a flight that failed, one each.
ATTEMPTS: Final = 3

_log = logging.getLogger("proxy.tokens")


class SingleFlight:
    def __init__(self, context: RefreshContext, accounts: Accounts, clock: Clock) -> None:
        self._context = context
        self._accounts = accounts
        self._clock = clock
        self._flights: set[asyncio.Task[None]] = set()

    def start(self, account: Account) -> asyncio.Task[None]:
        """The account's flight; a new one if there is none."""
        if account.flight is None:
            account.flight = tasks.spawn(self._run(account), f"refresh {account.key}")
            account.throttle.crowd += 1
            self._flights.add(account.flight)
            account.flight.add_done_callback(self._flights.discard)
        return account.flight

    async def wait(self, account: Account, seconds: float) -> None:
        """Wait for the account's flight, but not longer than that; a new one if there is none."""
        await asyncio.wait((self.start(account),), timeout=seconds)

    async def close(self, grace: float) -> None:
        """Flights get `grace` seconds to save what they have been given."""
        if self._flights:
            await asyncio.wait(self._flights, timeout=grace)
        await tasks.cancel(*self._flights)

    async def _run(self, account: Account) -> None:
        known, failures = account.held, account.failures
        attempts = 1 if account.failures or account.throttle.failure else ATTEMPTS
        flight = Refresh(self._context, account.credential, account.key, known, account.throttle, attempts)
        try:
            async with account.throttle.turn():
                held = await flight.run()
        except HeldBack:
            return  # not its failure: it was not sent
        except AuthorizationServerError as error:
            if flight.kept is not None:
                self._kept(account, flight.kept, failures)
            self._failed(account, error, flight.tried)
        except StoreError as error:
            _log.error("%s can't be refreshed: %s", account.key, error)
            self._failed(account, AuthorizationServerError("transient", "store"))
        else:
            self._landed(account, known, held)
        finally:
            account.throttle.crowd -= 1
            account.flight = None

    def _landed(self, account: Account, known: StoredToken, held: StoredToken) -> None:
        self._accounts.take(account, held)
        if held.generation == known.generation:
            return  # nothing could be done
        account.throttle.succeeded()
        if held.state != "valid":
            return
        if not account.is_usable:  # it lives shorter than it takes to come: no use asking without a pause
            self._failed(account, AuthorizationServerError("transient", "expires_in"))
            return
        account.last_success_at = self._clock.wall()
        account.last_refresh = LastRefresh(account.last_success_at, "success", "")
        _log.info("refreshed %s, generation %d", account.key, held.generation, extra=_event(account))

    def _kept(self, account: Account, held: StoredToken, failures: int) -> None:
        """The response was refused, but for its refresh token: its server is up."""
        self._accounts.take(account, held)
        account.failures = failures
        account.throttle.succeeded()

    def _failed(self, account: Account, error: AuthorizationServerError, attempts: int = 1) -> None:
        account.failed(error, attempts)
        self._accounts.keep(account)  # who forgets the pause begins again at once
        account.last_refresh = LastRefresh(self._clock.wall(), error.outcome, error.error)
        _log.warning(
            "refresh of %s failed: %s (%s); next try in %.0f s",
            account.key,
            error.error,
            error.outcome,
            account.hold_until - self._clock.boot(),
            extra=_event(account),
        )


def _event(account: Account) -> dict[str, str]:
    return {"event": "refresh", "credential": account.key.credential, "account": account.key.account}
