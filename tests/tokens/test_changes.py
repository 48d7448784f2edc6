"""The signal "an account has changed": what it tells, to whom, and at what cost."""

import asyncio
from contextlib import suppress

import pytest

from proxy.demo import faults
from proxy.errors import TokenError
from proxy.store.base import AccountId
from proxy.tokens import reminders
from proxy.tokens.changes import Changes
from proxy.tokens.reminders import Reminders

ANN, BEN = AccountId("crm", "ann"), AccountId("crm", "ben")
LONG = 30.0  # seconds until a signal that does not come is a failure


async def told(subscription):
    async with asyncio.timeout(LONG):
        return await subscription.wait()


async def is_waiting(subscription):
    """Whether `wait` does not return by itself."""
    task = asyncio.ensure_future(subscription.wait())
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    return (await asyncio.gather(task, return_exceptions=True))[0].__class__ is asyncio.CancelledError


# -- the signal itself


async def test_changes_that_come_together_are_told_together_and_once():
    changes = Changes()
    changes.note(ANN)  # before the subscription
    subscription = changes.subscribe()
    assert await is_waiting(subscription)
    for key in (ANN, BEN, ANN, ANN):
        changes.note(key)
    assert await told(subscription) == {ANN, BEN}
    assert await is_waiting(subscription)
    changes.note(BEN)
    assert subscription.take() == {BEN}
    assert subscription.take() == frozenset()


async def test_a_waiting_subscriber_is_woken_by_each_change():
    changes = Changes()
    subscription = changes.subscribe()
    for key in (ANN, BEN, ANN):
        waiting = asyncio.ensure_future(told(subscription))
        await asyncio.sleep(0)
        changes.note(key)
        assert await waiting == {key}


async def test_each_subscriber_has_its_own_place():
    changes = Changes()
    first = changes.subscribe()
    changes.note(ANN)
    second = changes.subscribe()
    changes.note(BEN)
    assert (first.take(), second.take()) == ({ANN, BEN}, {BEN})


async def test_a_cancelled_wait_loses_nothing():
    changes = Changes()
    subscription = changes.subscribe()
    waiting = asyncio.ensure_future(subscription.wait())
    await asyncio.sleep(0)
    changes.note(ANN)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await told(subscription) == {ANN}


async def test_a_subscriber_that_is_far_behind_is_told_that_any_may_have_changed():
    changes = Changes(remembered=3)
    behind, near = changes.subscribe(), changes.subscribe()
    for number in range(4):
        changes.note(AccountId("crm", str(number)))
    assert near.take() is None
    changes.note(ANN)
    assert (behind.take(), near.take()) == (None, {ANN})
    changes.note(None)
    assert near.take() is None
    assert near.take() == frozenset()


def test_a_change_costs_the_same_whatever_the_number_of_subscribers_and_of_changes():
    changes = Changes(remembered=100)
    subscriptions = [changes.subscribe() for _ in range(1000)]
    for number in range(10_000):
        changes.note(AccountId("crm", str(number)))
    assert len(changes._numbers) == 100, "what is remembered is bounded"
    assert {vars(each)["_seen"] for each in subscriptions} == {0}, "nothing is done for any of them"


# -- where it comes from


async def test_logins_refreshes_failures_and_logouts_are_told(make_side):
    async with make_side() as side:
        subscription = side.tokens.changes.subscribe()
        account = await side.log_in("ann")
        assert await told(subscription) == {ANN}
        await side.tokens.refresh_now(account)
        assert await told(subscription) == {ANN}
        side.server.script(*[faults.NAMED["outage"]] * 3)
        with pytest.raises(TokenError):
            await side.tokens.refresh_now(account)
        assert await told(subscription) == {ANN}
        side.tokens.login_ended(ANN, "failed", "access_denied")
        assert await told(subscription) == {ANN}
        await side.tokens.forget(ANN)
        assert await told(subscription) == {ANN}
        await side.tokens.forget(ANN)  # there is nothing left to forget
        side.tokens.ready(account)
        assert await is_waiting(subscription)


async def test_puts_of_other_processes_are_told_even_of_accounts_that_are_not_in_memory(
    make_side, make_server, open_sqlite
):
    async with (
        make_server() as server,
        make_side(server=server, store=await open_sqlite()) as one,
        make_side(server=server, store=await open_sqlite()) as other,
    ):
        other.tokens._accounts._crowded.add("crm")  # as with very many accounts
        subscription = other.tokens.changes.subscribe()
        await one.log_in("ann")
        assert await told(subscription) == {ANN}
        assert other.tokens._accounts.find(ANN) is None


async def test_a_reload_may_change_any(make_side):
    async with make_side() as side:
        subscription = side.tokens.changes.subscribe()
        side.tokens.use(side.config, side.tokens.planned(side.config))
        assert await told(subscription) is None
        await side.log_in("ann")
        assert await told(subscription) == {ANN}, "the signal outlives the reload"


async def test_a_state_that_changes_by_time_alone_is_told(make_side):
    async with make_side() as side:
        await side.log_in("ann")
        heard = []
        looking = Reminders(side.tokens.accounts, lambda account: heard.append(account.key), str, side.clock)
        for _ in range(2):
            looking.report(side.tokens.accounts())
        assert heard == []
        side.clock.advance(3000)  # stale
        looking.report(side.tokens.accounts())
        assert heard == [ANN]
        side.clock.advance(1000)  # expired
        for _ in range(2):
            looking.report(side.tokens.accounts())
        assert heard == [ANN, ANN]


async def test_what_the_failures_of_others_do_to_an_account_is_told(make_side):
    async with make_side() as side:
        ann, ben = await side.log_in("ann"), await side.log_in("ben")
        heard = []
        looking = Reminders(side.tokens.accounts, lambda account: heard.append(account.key), str, side.clock)
        side.clock.advance(4000)  # both have expired
        looking.report([ben])
        side.server.script(faults.NAMED["too-many-requests"])  # it says for how long
        with suppress(TokenError):
            await side.tokens.refresh_now(ann)
        looking.report([ben])
        assert heard == [BEN]
        assert not ben.diagnosis().serves


async def test_a_serving_process_tells_what_changes_by_time(make_side, monkeypatch):
    monkeypatch.setattr(reminders, "REPORT_EVERY", 0.01)
    async with make_side() as side:
        account = await side.log_in("ann")
        reporting = asyncio.ensure_future(side.tokens.report_logins())
        await side.until(lambda: account.standing == ("valid", False))
        subscription = side.tokens.changes.subscribe()
        side.clock.advance(3000)
        assert await told(subscription) == {ANN}
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
