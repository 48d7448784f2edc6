"""One probe at a time to a server that is down."""

from __future__ import annotations

import pytest

from proxy.demo import faults
from proxy.errors import AuthorizationServerError, Misconfigured, TokenUnavailable
from proxy.store.base import Key
from proxy.tokens.breaker import ACCOUNTS, LONGEST_PAUSE, Breaker
from tests.fakes.clock import FakeClock

HOUR = 3600
DOWN = AuthorizationServerError("transient", "unreachable")
MINUTES = 5


def keys(count: int) -> list[Key]:
    return [Key("crm", f"user{number}") for number in range(count)]


@pytest.fixture
def breaker(clock) -> Breaker:
    return Breaker(clock)


def test_one_account_alone_never_holds_up_the_others(breaker):
    for _ in range(100):
        breaker.started()
        breaker.failed(Key("crm", "ann"), DOWN)
        breaker.ended()
        assert breaker.is_closed


def test_several_accounts_do_until_one_succeeds(breaker, clock: FakeClock):
    for key in keys(ACCOUNTS):
        assert breaker.is_closed
        breaker.failed(key, DOWN)
    assert not breaker.is_closed
    clock.advance(LONGEST_PAUSE)
    assert breaker.is_closed
    breaker.started()
    assert not breaker.is_closed  # the probe is under way
    breaker.succeeded()
    breaker.ended()
    assert breaker.is_closed
    breaker.failed(Key("crm", "ann"), DOWN)
    assert breaker.is_closed  # and it takes several again


def test_those_that_were_under_way_when_it_went_down_count_as_one_failure(breaker, clock: FakeClock):
    for key in keys(100):
        breaker.failed(key, DOWN)
    assert breaker.hold_until - clock.boot() <= 1.0


def test_pauses_grow_but_stay_short_enough_for_others_to_have_a_try(breaker, clock: FakeClock):
    pauses = []
    for _ in range(10):
        for key in keys(ACCOUNTS):
            breaker.failed(key, DOWN)
        pauses.append(breaker.hold_until - clock.boot())
        clock.advance(LONGEST_PAUSE)
    assert max(pauses) <= LONGEST_PAUSE
    assert pauses[0] <= 1.0 < pauses[-1]


def test_a_pause_that_the_server_asks_for_is_given(breaker, clock: FakeClock):
    for key in keys(ACCOUNTS):
        breaker.failed(key, AuthorizationServerError("transient", "http_429", retry_after=60))
    clock.advance(59)
    assert not breaker.is_closed
    clock.advance(1)
    assert breaker.is_closed


async def test_a_hundred_accounts_of_a_server_that_is_down_cost_few_requests(side, monkeypatch):
    monkeypatch.undo()  # the pauses of life
    names = [f"user{number}" for number in range(100)]
    for name in names:
        await side.log_in(name)
    side.clock.advance(HOUR)
    throttled = faults.status(503, headers={"Retry-After": "0"})  # no attempts in a row: nobody sleeps here
    side.server.script(*[throttled] * 10_000)
    for _ in range(60 * MINUTES // 5):
        for name in names:
            with pytest.raises(TokenUnavailable) as caught:
                await side.tokens.get(side.account(name))
            assert caught.value.retry_after <= 30
        side.clock.advance(5)
    assert len(side.refreshes) < 60 * MINUTES / (LONGEST_PAUSE / 2) + ACCOUNTS + 10
    side.server.faults.clear()
    side.clock.advance(LONGEST_PAUSE)
    for name in names:
        served = None
        for _ in range(3):  # whoever failed last has a pause of its own
            try:
                served = await side.tokens.get(side.account(name))
                break
            except TokenUnavailable:
                side.clock.advance(15)
        assert side.is_good(served)


async def test_accounts_that_were_held_up_are_told_the_reason_of_the_others(side):
    for number in range(ACCOUNTS + 1):
        await side.log_in(f"user{number}")
    side.clock.advance(HOUR)
    side.server.script(*[faults.NAMED["invalid-client"]] * ACCOUNTS)
    for number in range(ACCOUNTS + 1):
        with pytest.raises(Misconfigured):
            await side.tokens.get(side.account(f"user{number}"))
    assert len(side.refreshes) == ACCOUNTS
