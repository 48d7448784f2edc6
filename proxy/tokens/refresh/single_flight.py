"""The refreshes of this process: one task per account, shared by all callers.

A caller that disconnects does not end it, and callers that arrive meanwhile share its result.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final, Literal, NamedTuple

from proxy import tasks
from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.errors import AuthorizationServerError, StoreError
from proxy.oauth.token import Refusal
from proxy.observe.events import ERROR, INFO, WARNING, Field, decision, event
from proxy.tokens.account import Account
from proxy.tokens.account_facts import explained
from proxy.tokens.accounts import Accounts
from proxy.tokens.last_attempts import LastRefresh
from proxy.tokens.refresh.breaker import Candidate
from proxy.tokens.refresh.context import RefreshContext
from proxy.tokens.refresh.exchange import SubjectExchange
from proxy.tokens.refresh.refresh import Refresh
from proxy.tokens.refresh.throttle import HeldBack, Turn
from proxy.tokens.stored_token import StoredToken

# Requests of one refresh, if the last one succeeded: after a lost response it is retried while servers still
# repeat theirs, for most some seconds (RFC 9700 section 4.14.2). After a failed refresh, one request each.
ATTEMPTS: Final = 3

# Why a refresh is started: ahead of the token's expiry; after it; there is no token yet; an upstream has
# responded with 401; on a person's request.
Why = Literal["due", "expired", "first", "rejected", "person"]

_log = logging.getLogger("proxy.tokens")


class _Flight(NamedTuple):
    why: Why
    started: float  # boot clock


class SingleFlight:
    def __init__(self, context: RefreshContext, accounts: Accounts, clock: Clock) -> None:
        self._context = context
        self._accounts = accounts
        self._clock = clock
        self._flights: set[asyncio.Task[None]] = set()

    def use(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def start(self, account: Account, why: Why = "due") -> asyncio.Task[None]:
        """The task that refreshes the account; a new one if there is none. `why` is for the log."""
        if account.flight is None:
            candidate = account.candidate
            account.throttle.join(candidate)
            _debug(account, "a refresh starts: %s", why)
            account.flight = tasks.spawn(self._run(account, candidate, why), f"refresh {account.key}")
            self._flights.add(account.flight)
            account.flight.add_done_callback(self._flights.discard)
        return account.flight

    async def wait(self, account: Account, seconds: float, why: Why = "due") -> None:
        """Wait at most `seconds` for the account's refresh; start one if there is none."""
        await asyncio.wait((self.start(account, why),), timeout=seconds)

    async def close(self, grace: float) -> None:
        """Refreshes under way get `grace` seconds to save their tokens."""
        if self._flights:
            await asyncio.wait(self._flights, timeout=grace)
        await tasks.cancel(*self._flights)

    async def _run(self, account: Account, candidate: Candidate, why: Why) -> None:
        known, throttle = account.held, account.throttle
        failures, since = account.failures, account.failing_since
        flight = _Flight(why, self._clock.boot())
        credential = account.credential  # a reload may give the account another one
        attempts = ATTEMPTS if throttle.is_closed and not account.failures else 1
        refresh: Refresh | SubjectExchange | None = None
        try:
            async with throttle.turn(candidate) as turn:
                refresh = self._work(account, credential, known, turn, attempts)
                held = await refresh.run()
        except HeldBack as held_back:  # no failure of the account: nothing was sent
            _debug(account, "the refresh is held back: %s", held_back)
            return
        except AuthorizationServerError as error:
            if refresh is not None and refresh.kept is not None:
                self._kept(account, refresh.kept, failures, since)
            self._failed(account, flight, error, refresh.tried if refresh else 0)
            if account.credential != credential:
                account.forgive()
        except StoreError as error:
            self._failed(account, flight, AuthorizationServerError("transient", "store"), ours=str(error))
        except Exception as error:  # noqa: BLE001 (without a back-off it would be retried each second)
            tasks.report("refresh", error, f"unexpected error in refreshing {account.key}: report it")
            self._failed(account, flight, AuthorizationServerError("transient", "internal"))
        else:
            self._landed(account, flight, known, held)
        finally:
            throttle.leave(candidate)
            account.flight = None

    def _work(
        self, account: Account, credential: Credential, known: StoredToken, turn: Turn, attempts: int
    ) -> Refresh | SubjectExchange:
        if account.subject is None:
            return Refresh(self._context, credential, account.key, known, turn, attempts)
        return SubjectExchange(self._context, credential, account.key, known, turn, attempts, account.subject)

    def _landed(self, account: Account, flight: _Flight, known: StoredToken, held: StoredToken) -> None:
        self._accounts.apply(account, held)
        if held.generation == known.generation:
            _debug(account, "the refresh had nothing to do")
            return
        refused = account.refusal
        if refused is not None and refused.last != _last_refusal(known):
            self._refused(account, flight, refused)
            return
        if held.state != "valid":
            return
        account.throttle.succeeded()
        if not account.is_usable:  # it expired before it arrived: without a pause the next would, too
            self._failed(account, flight, AuthorizationServerError("transient", "expires_in"))
            return
        account.last_success_at = self._clock.wall()
        account.last_refresh = LastRefresh(account.last_success_at, "success", "")
        sentence = f"refreshed {account.key} ({flight.why}), generation {held.generation}"
        fields = self._fields(account, flight, "success")
        due = account.fresh_until - self._clock.boot()
        due_in = round(due, 1) if math.isfinite(due) else None
        event(_log, INFO, "refresh", sentence, **fields, generation=held.generation, next_refresh_s=due_in)

    def _refused(self, account: Account, flight: _Flight, refused: Refusal) -> None:
        self._accounts.remember(account)  # a dropped account would be retried without the pause
        outcome = "transient" if refused.decided_at is None else "login_required"
        account.last_refresh = LastRefresh(refused.last, outcome, refused.error)
        next_try = self._next_try(account)
        event(
            _log,
            WARNING,
            "refresh_failed",
            f"refresh of {account.key} was refused: {refused.error}{_said(next_try)}",
            **self._fields(account, flight, outcome),
            error=refused.error,
            failures=refused.times,
            next_try_s=next_try,
        )

    def _kept(self, account: Account, held: StoredToken, failures: int, since: float | None) -> None:
        """Apply the refresh token of a refused response: the earlier failures still count."""
        self._accounts.apply(account, held)
        account.failures, account.failing_since = failures, since

    def _failed(
        self,
        account: Account,
        flight: _Flight,
        error: AuthorizationServerError,
        attempts: int = 1,
        *,
        ours: str = "",
    ) -> None:
        """`ours`: what failed, if it is our own store."""
        account.failed(error, attempts)
        self._accounts.changed(account)
        self._accounts.remember(account)  # a dropped account would be retried without the pause
        account.last_refresh = LastRefresh(self._clock.wall(), error.outcome, error.error)
        next_try = self._next_try(account)
        event(
            _log,
            ERROR if ours else WARNING,
            "refresh_failed",
            f"refresh of {account.key} failed: {ours or explained(account, error)}{_said(next_try)}",
            **self._fields(account, flight, error.outcome),
            error=error.error,
            cause=error.cause_sentence,
            failures=account.failures,
            next_try_s=next_try,
        )

    def _next_try(self, account: Account) -> float | None:
        """Seconds; None if only a person can help."""
        wait = round(max(0.0, account.hold_until - self._clock.boot()), 1)
        return wait if account.can_refresh else None

    def _fields(self, account: Account, flight: _Flight, outcome: str) -> dict[str, Field]:
        """What all events of the end of a refresh have."""
        return {
            **account.key._asdict(),
            "outcome": outcome,
            "why": flight.why,
            "duration_ms": round(1000 * (self._clock.boot() - flight.started), 1),
        }


def _last_refusal(held: StoredToken) -> float | None:
    return held.token.refusal.last if held.token and held.token.refusal else None


def _said(next_try: float | None) -> str:
    return "" if next_try is None else f"; next try in {next_try:.0f} s"


def _debug(account: Account, sentence: str, *values: object) -> None:
    decision(_log, f"%s: {sentence}", account.key, *values, **account.key._asdict())
