"""Looks at all accounts now and then, for what comes by time alone: other states, tokens that end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from proxy import tasks
from proxy.clock import Clock
from proxy.store.base import AccountId
from proxy.tokens import log_warnings
from proxy.tokens.account import Account

REMIND_EVERY: Final = 60.0  # seconds between two checks for refresh tokens that end
REPORT_EVERY: Final = 2.0  # seconds between two checks for accounts that need a person
REMIND: Final = "remind of refresh tokens that end"  # in internal_errors_total, as the next
REPORT: Final = "report logins that are due"
AT_ONCE: Final = 64  # accounts checked before other tasks run again


class Reminders:
    """`accounts` returns all that this process knows, `login_url` the page of an account's login.

    `changed` is called for each account with another state than at the last look.
    """

    def __init__(
        self,
        accounts: Callable[[], list[Account]],
        changed: Callable[[Account], object],
        login_url: Callable[[AccountId], str],
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._changed = changed
        self._login_url = login_url
        self._clock = clock

    async def remind(self) -> None:
        """One check for refresh tokens that end, and the pause after it."""
        for account in self._accounts():
            try:
                log_warnings.remind(account, self._clock.wall(), self._login_url(account.key))
            except Exception as error:  # noqa: BLE001 (one odd account must not silence the others)
                tasks.report(REMIND, error, f"unexpected error in looking at {account.key}: report it")
        await asyncio.sleep(REMIND_EVERY)

    async def report_logins(self) -> None:
        """Log each account whose tokens have ended, so that a person must act. Runs for ever."""
        try:
            await tasks.repeat(REPORT, self._report_all)
        finally:
            self.report(self._accounts())  # those that have ended since the last check

    async def _report_all(self) -> None:
        accounts = self._accounts()
        for start in range(0, len(accounts), AT_ONCE):
            self.report(accounts[start : start + AT_ONCE])
            await asyncio.sleep(0)
        await asyncio.sleep(REPORT_EVERY)

    def report(self, accounts: list[Account]) -> None:
        for account in accounts:
            try:
                log_warnings.login_required(account, self._login_url(account.key))
                self._look(account)
            except Exception as error:  # noqa: BLE001 (one odd account must not silence the others)
                tasks.report(REPORT, error, f"unexpected error in looking at {account.key}: report it")

    def _look(self, account: Account) -> None:
        """The state, and whether the circuit breaker holds it back: what only time, or others, change."""
        waits = not account.is_usable and account.throttle.waits_until(account.candidate) > self._clock.boot()
        before, account.standing = account.standing, (account.state(), waits)
        if before not in {None, account.standing}:
            self._changed(account)
