"""Turns, a pace, and one probe at a time to a server that is down."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from proxy.demo import faults
from proxy.errors import AuthorizationServerError, Misconfigured, TokenUnavailable
from proxy.store.base import AccountId
from proxy.tokens.refresh import backoff
from proxy.tokens.refresh.throttle import ACCOUNTS, AT_ONCE, HeldBack, ServerThrottle
from tests.fakes.clock import FakeClock

HOUR = 3600
QUICK = 1e6  # a rate that keeps nobody waiting
DOWN = AuthorizationServerError("transient", "unreachable")
LAST = backoff.BACKOFF_LAST


def keys(count: int) -> list[AccountId]:
    return [AccountId("crm", f"user{number}") for number in range(count)]


def fail(throttle: ServerThrottle, count: int = ACCOUNTS, error: AuthorizationServerError = DOWN) -> None:
    for key in keys(count):
        throttle.failed(key, error)


@pytest.fixture
def throttle(clock) -> ServerThrottle:
    return ServerThrottle(clock, QUICK)


@pytest.fixture
def crowd(throttle):
    """`await crowd(40)` go through the gate; how many had their turn at once, at most."""

    async def go(count: int) -> int:
        inside = most = 0

        async def one():
            nonlocal inside, most
            async with throttle.turn():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.001)
                inside -= 1

        await asyncio.gather(*(one() for _ in range(count)))
        return most

    return go


# -- turns and pace


async def test_a_herd_takes_turns(crowd):
    assert await crowd(40) == AT_ONCE


async def test_when_one_has_failed_they_go_one_by_one_until_one_succeeds(throttle, crowd):
    fail(throttle, 1)
    assert await crowd(10) == 1
    throttle.succeeded()
    assert await crowd(40) == AT_ONCE


async def test_who_is_called_and_gives_up_just_then_passes_the_turn_on(throttle, crowd):
    async with AsyncExitStack() as others:
        for _ in range(AT_ONCE - 1):
            await others.enter_async_context(throttle.turn())
        async with throttle.turn():
            first, second = (asyncio.create_task(crowd(1)) for _ in range(2))
            for _ in range(3):
                await asyncio.sleep(0)
        first.cancel()  # it is called, and has not run yet
        assert await second == 1
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_refreshes_keep_a_pace_and_the_first_waits_for_nobody(clock):
    throttle, loop = ServerThrottle(clock, 100.0), asyncio.get_running_loop()
    times = []
    for _ in range(6):
        async with throttle.turn():
            times.append(loop.time())
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) > 0.008
    assert sum(gaps) > 0.045


# -- a server that is down


async def test_one_account_alone_never_holds_up_the_others(throttle):
    for _ in range(100):
        fail(throttle, 1)
        assert not throttle.is_shut


async def test_several_accounts_do_until_one_succeeds(throttle, clock: FakeClock):
    fail(throttle, ACCOUNTS - 1)
    assert not throttle.is_shut
    fail(throttle)
    assert throttle.is_shut
    with pytest.raises(HeldBack):
        async with throttle.turn():
            pytest.fail("the server is down")
    clock.advance(1)
    async with throttle.turn():
        throttle.succeeded()
    assert throttle.recovered_at == clock.boot()
    fail(throttle, 1)
    assert not throttle.is_shut  # and it takes several again


async def test_those_who_wait_behind_a_probe_share_its_fate(throttle, clock: FakeClock, crowd):
    fail(throttle)
    clock.advance(1)
    for outcome in ("fails", "works"):
        async with throttle.turn():
            waiting = asyncio.create_task(crowd(20))
            await asyncio.sleep(0)
            if outcome == "fails":
                fail(throttle)
            else:
                throttle.succeeded()
        if outcome == "fails":
            with pytest.raises(HeldBack):
                await waiting
            clock.advance(2)
        else:
            assert await waiting == AT_ONCE


async def test_those_that_were_under_way_when_it_went_down_count_as_one_failure(throttle, clock: FakeClock):
    fail(throttle, 100)
    assert throttle.hold_until - clock.boot() <= 1.0


async def test_pauses_double_up_to_half_a_minute(throttle, clock: FakeClock):
    for number in range(10):
        fail(throttle)
        pause, longest = throttle.hold_until - clock.boot(), min(2.0**number, LAST)
        assert longest / 2 <= pause <= longest
        clock.advance(pause)


async def test_a_pause_that_the_server_asks_of_one_is_kept_by_all(throttle, clock: FakeClock):
    fail(throttle, 1, AuthorizationServerError("transient", "http_429", retry_after=60))
    clock.advance(59)
    assert throttle.is_shut
    clock.advance(1)
    assert not throttle.is_shut


async def test_who_mends_something_may_try_at_once(throttle):
    fail(throttle)
    throttle.try_now()
    assert not throttle.is_shut


async def test_a_hundred_accounts_of_a_server_that_is_down_cost_few_requests_and_recover_together(
    side, monkeypatch
):
    monkeypatch.undo()  # the pauses of life
    names = [f"user{number}" for number in range(100)]
    for name in names:
        await side.log_in(name)
    side.clock.advance(HOUR)
    throttled = faults.status(503, headers={"Retry-After": "0"})  # no attempts in a row: nobody sleeps here
    side.server.script(*[throttled] * 10_000)
    for _ in range(5 * 60 // 5):
        for name in names:
            with pytest.raises(TokenUnavailable) as caught:
                await side.tokens.get(side.account(name))
            assert caught.value.retry_after <= LAST
        side.clock.advance(5)
    assert len(side.refreshes) <= 25
    side.server.faults.clear()
    side.clock.advance(LAST)
    served = await asyncio.gather(*(side.tokens.get(side.account(name)) for name in names))
    assert all(map(side.is_good, served))
    assert len(side.refreshes) <= 25 + len(names)


async def test_accounts_that_were_held_up_are_told_the_reason_of_the_others(side):
    for number in range(ACCOUNTS + 1):
        await side.log_in(f"user{number}")
    side.clock.advance(HOUR)
    side.server.script(*[faults.NAMED["invalid-client"]] * ACCOUNTS)
    for number in range(ACCOUNTS + 1):
        with pytest.raises(Misconfigured):
            await side.tokens.get(side.account(f"user{number}"))
    assert len(side.refreshes) == ACCOUNTS
    side.clock.advance(backoff.MISCONFIGURED_PAUSE - 1)
    with pytest.raises(Misconfigured):
        await side.tokens.get(side.account("user0"))
    assert len(side.refreshes) == ACCOUNTS
