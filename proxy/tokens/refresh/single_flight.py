"""The refreshes of this process: one task per account, shared by all callers.

A caller that disconnects does not end it, and callers that arrive meanwhile share its result.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from proxy import tasks
from proxy.clock import Clock
from proxy.errors import AuthorizationServerError, StoreError
from proxy.oauth.token import Refusal
from proxy.tokens.account import Account, LastRefresh, StoredToken
from proxy.tokens.accounts import Accounts
from proxy.tokens.refresh.breaker import Candidate
from proxy.tokens.refresh.refresh import Refresh, RefreshContext
from proxy.tokens.refresh.throttle import HeldBack

# Requests of one refresh, if the last one succeeded: after a lost response it is retried while servers still
# repeat theirs, for most some seconds (RFC 9700 section 4.14.2). After a failed refresh, one request each.
ATTEMPTS: Final = 3

_log = logging.getLogger("proxy.tokens")


class SingleFlight:
    def __init__(self, context: RefreshContext, accounts: Accounts, clock: Clock) -> None:
        self._context = context
        self._accounts = accounts
        self._clock = clock
        self._flights: set[asyncio.Task[None]] = set()

    def use(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def start(self, account: Account) -> asyncio.Task[None]:
        """The task that refreshes the account; a new one if there is none."""
        if account.flight is None:
            candidate = account.candidate
            account.throttle.join(candidate)
            account.flight = tasks.spawn(self._run(account, candidate), f"refresh {account.key}")
            self._flights.add(account.flight)
            account.flight.add_done_callback(self._flights.discard)
        return account.flight

    async def wait(self, account: Account, seconds: float) -> None:
        """Wait at most `seconds` for the account's refresh; start one if there is none."""
        await asyncio.wait((self.start(account),), timeout=seconds)

    async def close(self, grace: float) -> None:
        """Refreshes under way get `grace` seconds to save their tokens."""
        if self._flights:
            await asyncio.wait(self._flights, timeout=grace)
        await tasks.cancel(*self._flights)

    async def _run(self, account: Account, candidate: Candidate) -> None:
        known, failures, throttle = account.held, account.failures, account.throttle
        credential = account.credential  # a reload may give the account another one
        attempts = ATTEMPTS if throttle.is_closed and not account.failures else 1
        refresh: Refresh | None = None
        try:
            async with throttle.turn(candidate) as turn:
                refresh = Refresh(self._context, credential, account.key, known, turn, attempts)
                held = await refresh.run()
        except HeldBack:
            return  # no failure of the account: nothing was sent
        except AuthorizationServerError as error:
            if refresh is not None and refresh.kept is not None:
                self._kept(account, refresh.kept, failures)
            self._failed(account, error, refresh.tried if refresh else 0)
            if account.credential != credential:
                account.forgive()
        except StoreError as error:
            _log.error("%s can't be refreshed: %s", account.key, error)
            self._failed(account, AuthorizationServerError("transient", "store"))
        except Exception as error:  # noqa: BLE001 (without a back-off it would be retried each second)
            tasks.report("refresh", error, f"unexpected error in refreshing {account.key}: report it")
            self._failed(account, AuthorizationServerError("transient", "internal"))
        else:
            self._landed(account, known, held)
        finally:
            throttle.leave(candidate)
            account.flight = None

    def _landed(self, account: Account, known: StoredToken, held: StoredToken) -> None:
        self._accounts.apply(account, held)
        if held.generation == known.generation:
            return  # nothing was done
        refused = account.refusal
        if refused is not None and refused.last != _last_refusal(known):
            self._refused(account, refused)
            return
        if held.state != "valid":
            return
        account.throttle.succeeded()
        if not account.is_usable:  # it expired before it arrived: without a pause the next would, too
            self._failed(account, AuthorizationServerError("transient", "expires_in"))
            return
        account.last_success_at = self._clock.wall()
        account.last_refresh = LastRefresh(account.last_success_at, "success", "")
        _log.info("refreshed %s, generation %d", account.key, held.generation, extra=_event(account))

    def _refused(self, account: Account, refused: Refusal) -> None:
        self._accounts.remember(account)  # a dropped account would be retried without the pause
        outcome = "transient" if refused.decided_at is None else "login_required"
        account.last_refresh = LastRefresh(refused.last, outcome, refused.error)
        if account.can_refresh:
            _log.warning(
                "refresh of %s was refused: %s; next try in %.0f s",
                account.key,
                refused.error,
                max(0.0, account.hold_until - self._clock.boot()),
                extra=_event(account),
            )

    def _kept(self, account: Account, held: StoredToken, failures: int) -> None:
        """Apply the refresh token of a refused response: the earlier failures still count."""
        self._accounts.apply(account, held)
        account.failures = failures

    def _failed(self, account: Account, error: AuthorizationServerError, attempts: int = 1) -> None:
        account.failed(error, attempts)
        self._accounts.remember(account)  # a dropped account would be retried without the pause
        account.last_refresh = LastRefresh(self._clock.wall(), error.outcome, error.error)
        _log.warning(
            "refresh of %s failed: %s (%s); next try in %.0f s",
            account.key,
            error.error,
            error.outcome,
            account.hold_until - self._clock.boot(),
            extra=_event(account),
        )


def _last_refusal(held: StoredToken) -> float | None:
    return held.token.refusal.last if held.token and held.token.refusal else None


def _event(account: Account) -> dict[str, str]:
    return {"event": "refresh", "credential": account.key.credential, "account": account.key.account}
