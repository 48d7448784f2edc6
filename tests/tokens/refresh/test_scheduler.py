"""Refreshes ahead of expiry, without requests and without checking too often."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from proxy.demo import faults
from proxy.demo.faults import Fault
from proxy.errors import AuthorizationServerError
from proxy.store.base import ON_DEMAND, AccountId
from proxy.tokens import accounts
from proxy.tokens.refresh import scheduler, throttle
from proxy.tokens.refresh.breaker import WITNESSES, Candidate
from proxy.tokens.saved import codec
from tests.tokens.conftest import CREDENTIALS

HOUR = 3600
STALE = 3000
LOOKS = 0.02  # seconds between two checks here; a second in production


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(scheduler, "LOOK_AGAIN", LOOKS)
    monkeypatch.setattr(scheduler, "AT_LEAST", LOOKS)


async def plant(side, name: str, client: str = "web", due_in: float = -10.0) -> None:
    """A record that is due by the index, written without the manager."""
    await side.log_in(name)
    record = await side.stored(name)
    token = replace(codec.decode(record.body), client_id=client)
    record = replace(record, generation=2, due_at=side.clock.wall() + due_in, body=codec.encode(token))
    await side.store.put(record, expected=1)


@pytest.mark.usefixtures("quick")
async def test_tokens_are_refreshed_when_they_are_due_without_requests(side):
    account = await side.log_in()
    async with side.kept_fresh():
        for generation in range(1, 4):
            await asyncio.sleep(3 * LOOKS)
            assert account.held.generation == generation
            side.clock.advance(account.fresh_until - side.clock.boot())
            await side.until(lambda generation=generation: account.held.generation > generation)
    assert len(side.refreshes) == 3
    assert side.server.families_revoked == 0


@pytest.mark.usefixtures("quick")
async def test_accounts_that_no_request_has_named_yet_too(make_side, side):
    await side.log_in("ann")
    side.clock.advance(STALE)
    async with make_side(server=side.server, store=side.store, started=False) as other, other.kept_fresh():
        await other.until(lambda: side.refreshes)
        await side.until(lambda: side.account("ann").held.generation == 2)


@pytest.mark.usefixtures("quick")
async def test_a_failed_refresh_is_tried_again_after_its_pause(side):
    account = await side.log_in()
    side.clock.advance(STALE)
    side.server.script(faults.NAMED["too-many-requests"])
    async with side.kept_fresh():
        await side.until(lambda: account.failures == 1)
        await asyncio.sleep(3 * LOOKS)
        assert len(side.refreshes) == 1
        side.clock.advance(7)
        await side.until(lambda: account.failures == 0)
    assert len(side.refreshes) == 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("jump", [HOUR, 365 * 86400])
async def test_a_wall_clock_set_forward_makes_no_refresh_early(side, jump):
    await side.log_in()
    async with side.kept_fresh():
        side.clock.jump(jump)
        await asyncio.sleep(5 * LOOKS)
    assert side.refreshes == []


@pytest.mark.usefixtures("quick")
async def test_a_wall_clock_set_back_makes_no_refresh_late(side):
    account = await side.log_in()
    async with side.kept_fresh():
        await asyncio.sleep(0)
        side.clock.jump(-HOUR)
        side.clock.advance(STALE)
        await side.until(lambda: account.held.generation == 2)


@pytest.fixture
def naps(monkeypatch, clock):
    """The scheduler's pauses between checks, without real sleep."""
    slept: list[float] = []

    async def nap(seconds):
        slept.append(seconds)
        await asyncio.sleep(0.002)

    monkeypatch.setattr(scheduler, "asyncio", SimpleNamespace(sleep=nap))
    return slept


async def test_a_token_that_is_due_soon_is_refreshed_on_time_and_not_at_the_next_full_second(side, naps):
    account = await side.log_in()
    side.clock.advance(account.fresh_until - side.clock.boot() - 0.4)
    async with side.kept_fresh():
        await side.until(lambda: naps)
    assert naps[0] == pytest.approx(0.4)


WHY = ["fresh", "on hold", "of another client", "unreadable", "logged out"]


@pytest.mark.parametrize("why", WHY)
async def test_accounts_that_cannot_be_refreshed_cause_no_busy_loop(make_side, faulty_store, naps, why):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in("ann")
        if why == "on hold":
            side.clock.advance(STALE)
            side.server.script(*[faults.NAMED["too-many-requests"]] * 100)
        elif why == "of another client":
            await plant(side, "bob", client="other")
        elif why == "unreadable":
            await plant(side, "bob")
            record = await side.stored("bob")
            await faulty_store.put(replace(record, generation=3, body=b"{}"), expected=2)
        elif why == "logged out":
            await side.tokens.forget(account.key)
        async with side.kept_fresh():
            await side.until(lambda: len(naps) >= 5)  # it has checked every account, and failed once
            await side.landed(account)
            faulty_store.calls.clear()
            naps.clear()
            await side.until(lambda: len(naps) >= 20)
        assert set(naps) == {scheduler.LOOK_AGAIN}
        assert set(faulty_store.calls) == {"due_before"}  # one query per second, and nothing else


@pytest.mark.usefixtures("quick")
async def test_those_that_cannot_be_refreshed_take_no_place_from_others(side, monkeypatch):
    monkeypatch.setattr(scheduler, "BATCH", 3)
    for number in range(20):
        await plant(side, f"a{number:02}", client="other", due_in=-100.0)
    account = await side.log_in("zoe")
    side.clock.advance(STALE)
    async with side.kept_fresh():
        await side.until(lambda: account.held.generation == 2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("in_doubt", [False, True])
async def test_not_all_that_are_due_are_refreshed_at_once(side, monkeypatch, in_doubt):
    monkeypatch.setattr(throttle, "CROWD", 5)
    names = [f"user{number}" for number in range(30)]
    for name in names:
        (await side.log_in(name)).in_doubt = in_doubt
    side.clock.advance(STALE)
    most = 0

    async def count():
        nonlocal most
        most = max(most, side.account("user0").throttle.crowd)

    side.server.script(*[Fault(wait_before=count)] * len(names))
    async with side.kept_fresh():
        await side.until(lambda: all(side.account(name).held.generation == 2 for name in names))
    assert 1 <= most <= 5
    assert len(side.refreshes) == len(names)


@pytest.mark.usefixtures("quick")
async def test_a_store_that_fails_for_a_while_ends_nothing(make_side, faulty_store):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in()
        side.clock.advance(STALE)
        faulty_store.failing = {"due_before", "lease"}
        async with side.kept_fresh():
            await side.until(lambda: faulty_store.calls["due_before"] > 2)
            faulty_store.failing = {"get"}
            await side.until(lambda: account.failures)
            faulty_store.failing = set()
            side.clock.advance(2)
            await side.until(lambda: account.held.generation == 2)


@pytest.mark.usefixtures("quick")
async def test_an_unexpected_error_ends_nothing_and_is_logged(side, monkeypatch, caplog):
    account = await side.log_in()
    side.clock.advance(STALE)
    due_before = side.store.due_before

    async def wrong(*_):
        side.store.due_before = due_before
        raise ZeroDivisionError

    monkeypatch.setattr(side.tokens.scheduler, "_restless", list)
    side.store.due_before = wrong
    async with side.kept_fresh():
        await side.until(lambda: account.held.generation == 2)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.usefixtures("quick")
async def test_an_account_that_could_not_be_read_at_the_start_is_read_later(
    make_side, faulty_store, monkeypatch
):
    monkeypatch.setattr(accounts, "KNOWN_AT_START", 0)
    async with make_side(store=faulty_store) as side:
        await side.log_in()
        async with make_side(store=faulty_store, server=side.server, started=False) as other:
            faulty_store.failing = {"get"}
            await other.tokens.start()
            account = other.account()
            assert account.state() == "absent"
            async with other.kept_fresh():
                faulty_store.failing = set()
                await other.until(lambda: account.state() == "valid")


@pytest.mark.usefixtures("quick")
async def test_credentials_that_are_no_longer_configured_are_left_alone(side):
    await side.log_in()
    record = await side.stored()
    stranger = replace(record, key=AccountId("gone", "ann"), due_at=side.clock.wall() - 10)
    await side.store.put(stranger, expected=0)
    async with side.kept_fresh():
        await asyncio.sleep(3 * LOOKS)
    assert await side.store.get(stranger.key) == stranger
    assert [account.key for account in side.tokens.accounts()] == [record.key]


# -- accounts in great numbers

DAY = 24 * HOUR
WEEK = 7 * DAY


@pytest.mark.usefixtures("quick")
async def test_an_unused_account_is_not_refreshed_until_its_next_use(side):
    account = await side.log_in("ann")
    async with side.kept_fresh():
        for generation in range(2, 5):
            side.clock.advance(2 * DAY)
            await side.until(lambda generation=generation: account.held.generation == generation)
            await side.landed(account)
        side.clock.advance(2 * DAY)
        await asyncio.sleep(5 * LOOKS)
        assert account.held.generation == 4
        assert (await side.stored("ann")).due_at == ON_DEMAND
        assert side.is_good(await side.tokens.get(account))
        assert account.held.generation == 5
        side.clock.advance(HOUR)
        await side.until(lambda: account.held.generation == 6)


@pytest.mark.usefixtures("quick")
async def test_an_unused_account_is_refreshed_if_its_refresh_token_would_end_by_idleness(make_side):
    async with make_side(
        credential=CREDENTIALS["authorization_code"] + "\nrefresh_token_idle = 2_592_000"
    ) as side:
        account = await side.log_in("ann")
        async with side.kept_fresh():
            side.clock.advance(2 * WEEK)
            await asyncio.sleep(5 * LOOKS)
            assert account.held.generation == 1
            assert (await side.stored("ann")).due_at == pytest.approx(side.clock.wall() + 10 * DAY)
            side.clock.advance(10 * DAY)
            await side.until(lambda: account.held.generation == 2)


@pytest.mark.usefixtures("quick")
async def test_a_wall_clock_that_is_behind_at_a_restart_makes_no_refresh_late(make_side, side):
    await side.log_in()
    side.clock.jump(-HOUR)
    side.clock.advance(STALE)
    async with make_side(server=side.server, store=side.store) as restarted, restarted.kept_fresh():
        await restarted.until(lambda: restarted.account().held.generation == 2)


@pytest.mark.usefixtures("quick")
async def test_accounts_in_the_configuration_are_always_refreshed(side):
    account = await side.log_in()
    async with side.kept_fresh():
        for generation in range(2, 5):
            side.clock.advance(2 * WEEK)
            await side.until(lambda generation=generation: account.held.generation == generation)
            await side.landed(account)


@pytest.mark.usefixtures("quick")
async def test_a_use_in_one_process_counts_in_all(make_side, side, monkeypatch):
    monkeypatch.setattr(scheduler, "NOTE_AFTER", 0.0)
    account = await side.log_in("ann")
    async with make_side(server=side.server, store=side.store) as other:
        side.clock.advance(6 * DAY)
        async with side.kept_fresh():
            await side.until(lambda: account.held.generation == 2)
            side.tokens.ready(account)
            await asyncio.sleep(3 * LOOKS)
        assert (await side.stored("ann")).used_at == side.clock.wall()
        side.clock.advance(6 * DAY)
        async with other.kept_fresh():
            await other.until(lambda: other.account("ann").held.generation == 3)


async def test_a_use_is_noted_once_in_a_while(faulty_store, make_side):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in("ann")
        for _ in range(10):
            side.tokens.ready(account)
            await side.tokens.scheduler.note_uses()
            side.clock.advance(60)
        assert faulty_store.calls["touch"] == 1
        side.clock.advance(HOUR)
        side.tokens.ready(account)
        await side.tokens.scheduler.note_uses()
        assert faulty_store.calls["touch"] == 2


@pytest.mark.usefixtures("quick")
async def test_a_server_that_is_down_is_left_alone_and_then_gets_through_its_accounts(side, monkeypatch):
    monkeypatch.setattr(throttle, "CROWD", 2)
    monkeypatch.setattr(scheduler, "BATCH", 4)
    for number in range(20):
        await side.log_in(f"user{number}")
    account = side.account("user19")
    side.clock.advance(STALE)
    for number in range(WITNESSES):
        account.throttle.failed(
            Candidate(0, 0.0, AccountId("crm", f"user{number}")), AuthorizationServerError("transient", "dns")
        )
    async with side.kept_fresh():
        await asyncio.sleep(5 * LOOKS)
        assert side.refreshes == []
        side.clock.advance(30)
        await side.until(lambda: len(side.refreshes) >= 20)


async def test_a_start_reads_the_accounts_that_are_shown_by_name_and_no_others(make_side, side, faulty_store):
    few, many = 5, 150
    for number in range(few):
        await side.log_in(f"user{number}")
    record = await side.stored("user0")
    for number in range(many):
        await side.store.put(replace(record, key=AccountId("aaa", f"user{number:03}")), expected=0)
    faulty_store._store = side.store
    async with make_side(server=side.server, store=faulty_store) as other:
        assert len(other.tokens.accounts()) == few + 1  # and the configured account
        assert faulty_store.calls["page"] <= 4


async def test_accounts_of_another_process_are_shown_up_to_the_limit(make_side, side):
    async with make_side(server=side.server, store=side.store) as other:
        for number in range(130):
            await side.log_in(f"user{number:03}")
        await other.until(lambda: "crm" in other.tokens._accounts._crowded)
        assert 90 < len(other.tokens.accounts()) <= 102  # and the configured account
