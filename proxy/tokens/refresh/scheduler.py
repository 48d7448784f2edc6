"""Refreshes tokens before they expire, by the index of due times in the store.

The index uses the wall clock and only names the accounts to check; whether a token is due is decided by the
boot clock. So a jump of the wall clock makes no refresh early or late. An account that can't be refreshed now
gets a later time in the index, so that it does not hide others and need not be remembered.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

from proxy import tasks
from proxy.clock import Clock
from proxy.errors import StoreError
from proxy.observe.events import ERROR, decision, event
from proxy.store.base import ON_DEMAND, AccountId, Due, Store
from proxy.tokens import lifetime
from proxy.tokens.account import NEVER, Account
from proxy.tokens.accounts import Accounts
from proxy.tokens.refresh.throttle import CROWD

LOOK_AGAIN: Final = 1.0  # seconds; another process may have saved a token that is due sooner
AT_LEAST: Final = 0.2  # seconds between two checks
BATCH: Final = 2 * CROWD  # accounts of a credential per check: some are under way, others may start
NOTE_AFTER: Final = 60.0  # seconds between two checks for accounts that were used
NOTE_EVERY: Final = 3600.0  # seconds between two notes of an account's use; less with a short account_idle
LOOK_AT_ODD_AGAIN: Final = 10.0  # seconds; an unexpected error is logged each time
LOOK_AT_USELESS_AGAIN: Final = 3600.0  # seconds; the configuration may match a stored token again

TASK: Final = "keep tokens fresh"  # in internal_errors_total

_log = logging.getLogger("proxy.tokens")


class RefreshScheduler:
    """`refresh_behind` starts a refresh in the background.

    An account that is unused for `idle_after` seconds is refreshed only at its next use.
    """

    def __init__(
        self,
        accounts: Accounts,
        refresh_behind: Callable[[Account], None],
        store: Store,
        clock: Clock,
        *,
        idle_after: float,
    ) -> None:
        self._accounts = accounts
        self._refresh_behind = refresh_behind
        self._store = store
        self._clock = clock
        self._idle_after = idle_after
        self._wall_at_boot = self._note_at = NEVER  # set when it runs
        self._odd_until: dict[AccountId, float] = {}  # boot clock

    def use(self, accounts: Accounts, idle_after: float) -> None:
        """Schedule the accounts of another configuration."""
        self._accounts, self._idle_after = accounts, idle_after

    async def run(self) -> None:
        """Run for ever."""
        self._wall_at_boot = self._clock.wall() - self._clock.boot()
        self._note_at = self._clock.boot() + NOTE_AFTER
        await tasks.repeat(TASK, self._turn)

    async def _turn(self) -> None:
        clock, wait = self._clock, LOOK_AGAIN
        try:
            wait = await self.look(max(clock.wall(), self._wall_at_boot + clock.boot()))
            if clock.boot() >= self._note_at:
                self._note_at = clock.boot() + NOTE_AFTER
                await self.note_uses()
        except StoreError as error:
            sentence = f"the store can't be read for refreshes that are due: {error}"
            event(_log, ERROR, "store_unreadable", sentence)
        await asyncio.sleep(max(AT_LEAST, wait))

    async def look(self, now: float) -> float:
        """Start the refreshes that are due at `now` (Unix seconds). Returns seconds until the next check.

        Raises StoreError.
        """
        waits = [LOOK_AGAIN]
        with_room = self._accounts.with_room()
        indexed = await self._store.due_before(with_room, now + LOOK_AGAIN, BATCH)
        restless = [Due(now, account.key, None) for account in self._restless()]
        for due in sorted([*restless, *indexed], key=self._failures):  # those without failures first
            if due.key.credential not in self._accounts.throttles:  # a reload has just removed it
                continue
            is_indexed = due in indexed
            wait = await self._judge(due, is_indexed=is_indexed)
            if is_indexed and 0 < wait < LOOK_AGAIN:
                waits.append(wait)
        return min(waits)

    async def _judge(self, due: Due, *, is_indexed: bool) -> float:
        """As `refresh_if_due`, and postpone it in the index. An unexpected error affects no other account."""
        account = self._accounts.get(due.key)
        if self._clock.boot() >= self._odd_until.get(due.key, NEVER):
            self._odd_until.pop(due.key, None)
            try:
                wait = await self.refresh_if_due(due)
                if is_indexed and wait >= LOOK_AGAIN:
                    await self._put_off(account, wait)
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001 (it must not stop the other accounts)
                tasks.report(TASK, error, f"unexpected error in looking at {due.key}: report it")
                self._odd_until[due.key] = self._clock.boot() + LOOK_AT_ODD_AGAIN
            else:
                return wait
        if is_indexed:
            await self._store.postpone(
                due.key, account.held.generation, self._clock.wall() + LOOK_AT_ODD_AGAIN
            )
        return LOOK_AT_ODD_AGAIN

    def _failures(self, due: Due) -> int:
        account = self._accounts.find(due.key)
        return account.failures if account else 0

    async def refresh_if_due(self, due: Due) -> float:
        """Start a refresh that is due. Returns seconds until the next check; infinity: only when used."""
        account = self._accounts.get(due.key)
        if account.behind and not account.unreadable:
            await self._accounts.load_quietly(account)
        if account.unreadable or account.behind:
            return 0.0  # the record or the store can't be read
        if not account.can_refresh:
            return LOOK_AT_USELESS_AGAIN
        if account.flight is not None:
            return 0.0
        account.look_at_the_clock()
        until_due = account.fresh_until - self._clock.boot()
        if until_due > 0 and not account.must_retry:
            return until_due
        if self._is_idle(account, due.used_at) and (wait := self._kept_alive_in(account)) > 0:
            decision(_log, "%s: due, but unused: refreshed at its next use", account.key)
            return wait
        if account.throttle.has_room(account.candidate):
            self._refresh_behind(account)
        return max(0.0, account.waits_until - self._clock.boot())

    def _kept_alive_in(self, account: Account) -> float:
        """Seconds until an unused account must be refreshed to keep its refresh token; infinity: never."""
        token = account.held.token
        at = lifetime.keep_alive_at(token, account.credential) if token else None
        return float("inf") if at is None else at - self._clock.wall()

    async def _put_off(self, account: Account, seconds: float) -> None:
        """Check the account again in `seconds`, or now if its record has changed. Raises StoreError.

        Another process may have sent its refresh token, and died since. Only the index shows such an
        intent, so the record is read again.
        """
        known = account.held
        await self._accounts.load_quietly(account)
        held = account.held
        if held.generation != known.generation:
            return
        if held.in_doubt and held.in_doubt_by != known.in_doubt_by:
            account.hold_until = NEVER
            self._refresh_behind(account)
            return
        due_at = ON_DEMAND if math.isinf(seconds) else self._clock.wall() + seconds
        await self._store.postpone(account.key, held.generation, due_at)

    async def note_uses(self) -> None:
        """Note the use of accounts in the store. Raises StoreError."""
        every = min(NOTE_EVERY, self._idle_after / 4)
        wall_at_boot = self._clock.wall() - self._clock.boot()
        uses = self._accounts.used_since_noted(every)
        if uses:
            await self._store.touch({key: wall_at_boot + used_at for key, used_at in uses.items()})
        self._accounts.noted(uses)

    def _is_idle(self, account: Account, used_at: float | None) -> bool:
        """Whether the account is unused for `idle_after`: then it is refreshed only at its next use."""
        if account.key in self._accounts.fixed or account.must_retry or used_at is None:
            return False
        here = self._clock.boot() - account.used_at
        return min(here, self._clock.wall() - used_at) > self._idle_after

    def _restless(self) -> list[Account]:
        """Accounts to check whatever the index says: unread, in doubt, or due by the boot clock.

        The index uses a wall clock: of another host, or one that was set back before a restart.
        """
        now = self._clock.boot()
        return [
            account
            for account in self._accounts.known()
            if account.must_retry
            or (account.behind and not account.unreadable)
            or (now >= account.fresh_until and self._is_wanted(account))
        ]

    def _is_wanted(self, account: Account) -> bool:
        """Whether this process may need its token: it is in the configuration, or was used."""
        unused_for = self._clock.boot() - account.used_at
        is_used = account.key in self._accounts.fixed or unused_for <= self._idle_after
        return is_used and account.attachment is not None and account.flight is None and account.may_start
