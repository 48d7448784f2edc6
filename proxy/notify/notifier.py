"""Follows the accounts of a serving process, and reports those that need a person, or work again."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from proxy import tasks
from proxy.clock import Clock
from proxy.config.model import Config
from proxy.config.notify import Notify
from proxy.errors import GenerationConflict, StoreError, TokenError
from proxy.notify import message, reported
from proxy.notify.decide import AT_ONCE, PAUSE, Condition, Reported, Seen, due_in, messages
from proxy.notify.decide import reported as report_of
from proxy.notify.delivery import NotDelivered, deliver
from proxy.notify.message import Message
from proxy.notify.metrics import FAILED, SENT, NotificationMetrics
from proxy.observe.events import INFO, WARNING, decision, event
from proxy.store.base import AccountId, Outline, Store
from proxy.tokens.account import Account
from proxy.tokens.changes import Subscription
from proxy.tokens.log_warnings import NO_NEWS
from proxy.tokens.manager import TokenManager
from proxy.tokens.refresh import lease

TASK: Final = "notify"  # in internal_errors_total
LEASE: Final = "notify"  # held by the process that reports now
LEASE_AGAIN: Final = 1.0  # seconds between tries to get it: a report may take as long as a program
SETTLE: Final = 1.0  # seconds after a change: accounts that change together are reported together
LOOK_AGAIN: Final = 30.0  # seconds, at most, while a report waits: a suspended machine's timers are late
QUEUED: Final = 2_000  # accounts with a report to come, of 3 KiB each; the others are looked for afterwards
OUTLINES: Final = 1_000  # records looked at together
PIECE: Final = 64  # accounts looked at before other tasks run again
FIRST_PAUSE: Final = 5.0  # seconds after a first failed delivery; doubled by each further one
LONGEST_PAUSE: Final = 300.0  # seconds; also how long a mended webhook may stay unused
STORE_PAUSE: Final = 5.0  # seconds after an error of the store
SUMMARY_EVERY: Final = 60.0  # seconds between two messages about many accounts

_log = logging.getLogger("proxy.notify")


@dataclass(frozen=True, slots=True)
class Due:
    """A report that is due now."""

    account: Account
    seen: Seen
    last: Reported | None
    generation: int  # of the record of `last`

    @property
    def needs(self) -> bool:
        return self.seen.condition is Condition.NEEDS


class Notifier:
    def __init__(
        self, tokens: TokenManager, store: Store, clock: Clock, metrics: NotificationMetrics
    ) -> None:
        self._tokens = tokens
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._me = f"{lease.this_process(clock.boot_id)}/{secrets.token_hex(4)}"
        self._config: Config | None = None
        self._is_wanted = asyncio.Event()
        self._changes: Subscription | None = None  # while notifications are configured
        self._last: dict[AccountId, Reported | None] = {}  # as known here; the store has precedence
        self._waiting: dict[AccountId, float] = {}  # boot clock: when a report is due
        self._overflowed = False
        self._not_before = float("-inf")  # boot clock: after a failure
        self._failures = 0
        self._sent: deque[float] = deque(maxlen=AT_ONCE)  # boot clock
        self._summary_at = float("-inf")  # boot clock

    def use(self, config: Config) -> None:
        """Follow this configuration from now on. Can't fail."""
        before, self._config = self._config, config
        if before is None or before.notify != config.notify:
            self._not_before, self._failures = float("-inf"), 0
        self._metrics.is_configured = config.notify is not None
        if config.notify is not None:
            self._is_wanted.set()
        else:
            self._is_wanted.clear()

    async def run(self) -> None:
        """Run for ever."""
        await tasks.repeat(TASK, self._turn)

    async def _turn(self) -> None:
        if not self._is_wanted.is_set():
            self._changes = None
            self._last.clear()
            self._waiting.clear()
            await self._is_wanted.wait()
        try:
            if self._changes is None:
                await self._begin()
            else:
                await self._look_at(await self._news(self._changes))
            config = self._config  # a reload may have changed it meanwhile
            if config is not None and config.notify is not None:
                await self._report(config, config.notify)
        except NotDelivered as error:
            self._failed(error)
        except (StoreError, lease.LeaseLost) as error:
            decision(_log, "notifications wait: %s", error)
            self._not_before = self._clock.boot() + STORE_PAUSE
            if self._changes is None:
                await asyncio.sleep(STORE_PAUSE)

    # -- which accounts have a report to come

    async def _begin(self) -> None:
        """Raises StoreError."""
        changes = self._tokens.changes.subscribe()
        async for key, last in reported.all_open(self._store):
            self._last[key] = last
        await self._look_at_all()
        self._changes = changes

    async def _look_at_all(self) -> None:
        """Of the accounts that are not in memory, those that may have a report to come. Raises StoreError."""
        after: AccountId | None = None
        while outlines := await self._store.outlines(after, OUTLINES):
            now = self._clock.wall()
            for each in outlines:
                last = self._last.get(each.key)
                if may_need_person(each, now) != (last is not None and last.needs):
                    self._wait(each.key, 0.0)
            after = outlines[-1].key
        await self._look_at(None)

    async def _news(self, changes: Subscription) -> frozenset[AccountId] | None:
        """The accounts that have changed, once some have, or a report is due. None: any.

        Raises StoreError.
        """
        if self._overflowed and not self._waiting:
            self._overflowed = False
            await self._look_at_all()
        pause = None
        if self._waiting:
            at = max(self._not_before, min(self._waiting.values()))
            pause = min(LOOK_AGAIN, max(0.0, at - self._clock.boot()))
        try:
            async with asyncio.timeout(pause):
                first = await changes.wait()
        except TimeoutError:
            return frozenset()
        await asyncio.sleep(SETTLE)
        rest = changes.take()
        return None if first is None or rest is None else first | rest

    async def _look_at(self, keys: Iterable[AccountId] | None) -> None:
        accounts = self._tokens.accounts()
        if keys is not None:
            wanted = frozenset(keys)
            accounts = [each for each in accounts if each.key in wanted]
        for number, account in enumerate(accounts):
            self._consider(account)
            if number % PIECE == PIECE - 1:
                await asyncio.sleep(0)

    def _consider(self, account: Account) -> None:
        last = self._last.get(account.key)
        if (last is None or not last.needs) and not account.needs_person:
            self._waiting.pop(account.key, None)
            return
        self._wait(account.key, due_in(seen(account), last, self._clock.wall()))

    def _wait(self, key: AccountId, seconds: float | None) -> None:
        """None: there is nothing to report."""
        if seconds is None:
            self._waiting.pop(key, None)
        elif key in self._waiting or len(self._waiting) < QUEUED:
            self._waiting[key] = self._clock.boot() + seconds
        else:
            self._overflowed = True

    # -- reports

    async def _report(self, config: Config, settings: Notify) -> None:
        """Report what is due. Raises NotDelivered, StoreError, LeaseLost."""
        now = self._clock.boot()
        keys = [key for key, at in self._waiting.items() if at <= now]
        if not keys or now < self._not_before:
            return
        async with lease.holding(self._store, LEASE, self._me, self._clock, again=LEASE_AGAIN) as held:
            due = [each for key in keys if (each := await self._due(key)) is not None]
            needing, working = [each for each in due if each.needs], [each for each in due if not each.needs]
            for group in self._messages(needing, working):
                held.check()  # so that two processes report the same only if one was suspended meanwhile
                await self._send(config, settings, group)

    async def _due(self, key: AccountId) -> Due | None:
        """The account as it is now, if there still is something to report. Raises StoreError."""
        generation, last = await reported.read(self._store, key)
        self._last[key] = last
        try:
            account = await self._tokens.look_at(key)
        except TokenError:  # the configuration no longer has its credential
            self._waiting.pop(key, None)
            return None
        if account.behind:  # the store has failed
            self._wait(key, STORE_PAUSE)
            return None
        now = seen(account)
        seconds = due_in(now, last, self._clock.wall())
        if seconds == 0.0:
            return Due(account, now, last, generation)
        self._wait(key, seconds)
        return None

    def _messages(self, needing: list[Due], working: list[Due]) -> list[list[Due]]:
        now = self._clock.boot()
        room = AT_ONCE - sum(at > now - PAUSE for at in self._sent)
        found = messages(needing, working, room)
        if len(needing) + len(working) <= room:
            return found
        if now < self._summary_at + SUMMARY_EVERY:
            self._not_before = self._summary_at + SUMMARY_EVERY
            return []
        return found

    async def _send(self, config: Config, settings: Notify, group: list[Due]) -> None:
        """Raises NotDelivered."""
        made = _message(group, config.public_url)
        try:
            await deliver(settings, config.server.proxy, os.environ, made.to_json())
        except NotDelivered as error:
            raise NotDelivered(error.error, f"{group[0].account.key}: {error}", error.status) from None
        self._failures = 0
        self._metrics.outcomes[SENT] += 1
        self._sent.append(self._clock.boot())
        if len(group) > 1:
            self._summary_at = self._clock.boot()
        event(
            _log,
            INFO,
            "notified",
            "notified: %s",
            made.text,
            credential=made.credential,
            account=made.account,
            state=made.state,
            more=made.more or None,
        )
        for each in group:
            await self._note(each)

    async def _note(self, each: Due) -> None:
        """Note the report. If the store fails, this process does not repeat it, but others may."""
        key = each.account.key
        last = self._last[key] = report_of(each.seen, each.last, self._clock.wall())
        self._waiting.pop(key, None)
        try:
            with suppress(GenerationConflict):  # another process has reported it too
                await reported.put(self._store, key, last, expected=each.generation)
        except StoreError as error:
            sentence = f"{key}: the notification may be repeated, as it could not be noted: {error}"
            event(_log, WARNING, "notification_not_noted", sentence, **key._asdict())

    def _failed(self, error: NotDelivered) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 30))
        self._failures += 1
        self._metrics.outcomes[FAILED] += 1
        self._not_before = self._clock.boot() + pause
        event(
            _log,
            WARNING,
            "notify_failed",
            f"a notification was not delivered: {error}; next try in {pause:.0f} s",
            error=error.error,
            status=error.status,
            failures=self._failures,
            waiting=len(self._waiting),
            next_try_s=pause,
        )


def seen(account: Account) -> Seen:
    """What there is to report of an account now."""
    diagnosis, token = account.diagnosis(), account.held.token
    if not account.needs_person:
        condition = Condition.WORKS if diagnosis.usable else Condition.NEITHER
    else:
        condition = Condition.EXPECTED if diagnosis.reason in NO_NEWS else Condition.NEEDS
    return Seen(condition, token.issued_at if token else None)


def may_need_person(outline: Outline, now: float) -> bool:
    """Whether the account may need a person, by what its record says in clear. `now`: Unix s."""
    if outline.state != "valid":
        return outline.state == "login_required"
    return outline.due_at is None and outline.expires_at is not None and outline.expires_at <= now


def _message(group: list[Due], public_url: str) -> Message:
    first = group[0].account
    if group[0].needs:
        made = message.needs_person(first.key, first.diagnosis(), public_url)
    else:
        made = message.works_again(first.key, first.state(), public_url)
    return made if len(group) == 1 else message.of_several(made, len(group) - 1, public_url)
