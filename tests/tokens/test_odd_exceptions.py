"""One unexpected exception, from the store or an account: each loop continues."""

import asyncio
from dataclasses import replace

import pytest

from proxy import tasks
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens import log_warnings, manager, reminders
from proxy.tokens.refresh import lease, scheduler

from .conftest import HOUR, SEAL


class Odd(ValueError):
    """An unexpected exception."""


class OddStore:
    """A store whose method raises `Odd` in its next calls, or for one account."""

    def __init__(self, store):
        self._store = store
        self.calls = {}  # method -> how many more calls fail
        self.account = None  # the account whose calls always fail

    def __getattr__(self, name):
        inner = getattr(self._store, name)
        if name == "changes":
            return self._changes

        async def call(*args, **kwargs):
            if self.calls.get(name, 0) > 0:
                self.calls[name] -= 1
                raise Odd(name)
            if self.account is not None and args and args[0] == self.account:
                raise Odd(name)
            return await inner(*args, **kwargs)

        return call

    def _changes(self):
        return self._read(self._store.changes())

    async def _read(self, changes):
        async for key in changes:
            if self.calls.get("changes", 0) > 0:
                self.calls["changes"] -= 1
                raise Odd("changes")
            yield key


@pytest.fixture
def odd(clock):
    return OddStore(SealedStore(MemoryStore(clock), SEAL))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(tasks, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(scheduler, "LOOK_AGAIN", 0.02)
    monkeypatch.setattr(scheduler, "AT_LEAST", 0.01)


@pytest.fixture
def counted():
    before = tasks.internal_errors.copy()
    return lambda task: tasks.internal_errors[task] - before[task]


async def put_by_another(odd, name):
    """A later generation of the same tokens."""
    record = await odd._store.get(AccountId("crm", name))
    later = replace(record, generation=record.generation + 1)
    await odd._store.put(later, expected=record.generation)
    return later.generation


async def test_changes_are_followed_after_the_iterator_failed(make_side, odd, counted):
    async with make_side(store=odd) as side:
        account = await side.log_in("ann")
        odd.calls["changes"] = 1
        for _ in range(2):
            wanted = await put_by_another(odd, "ann")
            await side.until(lambda wanted=wanted: account.held.generation == wanted)
        assert counted(manager.WATCH) == 1


async def test_an_account_that_can_not_be_read_hides_no_others_change(make_side, odd, counted):
    async with make_side(store=odd) as side:
        bad, good = await side.log_in("bad"), await side.log_in("good")
        odd.account = bad.key
        for name in ("bad", "good"):
            await put_by_another(odd, name)
        await side.until(lambda: good.held.generation == 2)
        assert counted(manager.WATCH) >= 1
        assert bad.held.generation == 1


async def test_where_anything_may_have_changed_one_odd_account_hides_no_other(make_side, odd, counted):
    async with make_side(store=odd) as side:
        bad, good = await side.log_in("bad"), await side.log_in("good")
        await side.until(lambda: not side.tokens._changes._changes)
        odd.account = bad.key
        good.held = replace(good.held, generation=0)
        await side.tokens._changes.follow(None)
        assert good.held.generation == 1
        assert counted(manager.WATCH) >= 1


async def test_an_account_that_can_not_be_looked_at_delays_no_others_refresh(make_side, odd, counted):
    async with make_side(store=odd) as side:
        bad, good = await side.log_in("bad"), await side.log_in("good")
        looking = asyncio.create_task(side.tokens.scheduler.run())
        side.clock.advance(HOUR)
        bad.look_at_the_clock = raises  # the first call of every check
        for account in (bad, good):
            side.tokens.ready(account)
        await side.until(lambda: good.held.generation == 2)
        assert counted(scheduler.TASK) == 1  # and it is not checked again at once
        assert bad.held.generation == 1
        await tasks.cancel(looking)


def raises(*_args, **_kwargs):
    raise Odd("odd")


async def test_a_look_that_fails_is_not_the_last_one(make_side, odd, counted):
    async with make_side(store=odd) as side:
        account = await side.log_in("ann")
        odd.calls["due_before"] = 3
        looking = asyncio.create_task(side.tokens.scheduler.run())
        await side.until(lambda: not odd.calls["due_before"])
        side.clock.advance(HOUR)
        await side.until(lambda: account.held.generation == 2)
        assert counted(scheduler.TASK) == 3
        await tasks.cancel(looking)


async def test_reminders_go_on_and_miss_no_account(make_side, monkeypatch, counted):
    monkeypatch.setattr(reminders, "REMIND_EVERY", 0.01)
    reminded = []

    def remind(account, _now, _login_url):
        reminded.append(account.key.account)
        if account.key.account == "bad":
            raise Odd

    monkeypatch.setattr(log_warnings, "remind", remind)
    async with make_side() as side:
        for name in ("bad", "good"):
            await side.log_in(name)
        await side.until(lambda: reminded.count("good") >= 2)
        assert counted(reminders.REMIND) >= 2


async def test_a_lease_is_renewed_after_an_odd_exception(odd, monkeypatch, counted):
    from tests.fakes.clock import FakeClock

    monkeypatch.setattr(lease, "RENEW_EVERY", 0.02)
    clock = FakeClock()
    odd.calls["renew"] = 1
    async with lease.holding(odd, "refresh:crm/ann", "me", clock) as held:
        clock.advance(lease.LIFETIME - lease.LAST_MOMENT)
        with pytest.raises(lease.LeaseLost):
            held.check()
        async with asyncio.timeout(5):
            while True:
                await asyncio.sleep(0.01)
                try:
                    held.check()
                except lease.LeaseLost:
                    continue
                break
    assert counted("renew a lease") == 1


async def test_a_refresh_that_fails_in_an_odd_way_is_tried_again_after_a_pause(make_side, odd, counted):
    async with make_side(store=odd) as side:
        account = await side.log_in("ann")
        side.clock.advance(HOUR)
        odd.calls["intend"] = 1
        side.tokens.refresh_behind(account)
        await side.landed(account)
        assert (account.failures, account.last_refresh.error) == (1, "internal")
        assert counted("refresh") == 1
        assert not account.may_start
        side.clock.advance(60)
        side.tokens.refresh_behind(account)
        await side.landed(account)
        assert account.held.generation == 2
