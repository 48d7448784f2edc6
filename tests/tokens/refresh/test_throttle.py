"""Turns, a rate, and one probe at a time to a server that is down."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from proxy.demo import faults
from proxy.errors import AuthorizationServerError, Misconfigured, TokenUnavailable
from proxy.store.base import AccountId
from proxy.tokens.refresh import backoff
from proxy.tokens.refresh import throttle as throttle_module
from proxy.tokens.refresh.breaker import WITNESSES, Candidate
from proxy.tokens.refresh.throttle import AT_ONCE, AT_ONCE_TROUBLED, HeldBack, ServerThrottle
from tests.fakes.clock import FakeClock
from tests.patience import FOR_CERTAIN

HOUR = 3600
QUICK = 1e6  # a rate without waiting
DOWN = AuthorizationServerError("transient", "http_503", status=503)
LAST = backoff.BACKOFF_LAST


def candidate(name: str = "user", failures: int = 0, since: float = 0.0) -> Candidate:
    return Candidate(failures, since, AccountId("crm", name))


def fail(throttle: ServerThrottle, count: int = WITNESSES, error: AuthorizationServerError = DOWN) -> None:
    for number in range(count):
        throttle.failed(candidate(f"user{number}"), error)


@pytest.fixture
def throttle(clock) -> ServerThrottle:
    return ServerThrottle(clock, QUICK)


@pytest.fixture
def crowd(throttle):
    """`await crowd(40)`: 40 refreshes through the throttle; returns the most turns at once."""

    async def go(count: int, failures: int = 0) -> int:
        inside = most = 0

        async def one(number):
            nonlocal inside, most
            async with throttle.turn(candidate(f"one{number}", failures)):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.05)
                inside -= 1

        await asyncio.gather(*map(one, range(count)))
        return most

    return go


async def probe(throttle, name="probe", failures=0, error: AuthorizationServerError | None = DOWN) -> None:
    """A complete turn that ends with `error`."""
    async with throttle.turn(candidate(name, failures)) as turn:
        if error is None:
            turn.succeeded()
        else:
            turn.failed(error)


# -- turns and pace


async def test_a_herd_takes_turns(crowd):
    assert await crowd(40) == AT_ONCE


async def test_accounts_in_trouble_have_half_of_the_turns(crowd):
    assert await crowd(40, failures=1) == AT_ONCE_TROUBLED


async def test_accounts_without_trouble_wait_for_none_that_has_some(throttle):
    async with AsyncExitStack() as troubled:
        waiting = []
        for number in range(AT_ONCE_TROUBLED):
            await troubled.enter_async_context(throttle.turn(candidate(f"bad{number}", 1)))
        for number in range(20):
            task = asyncio.create_task(probe(throttle, f"worse{number}", 2))
            waiting.append(task)
        await asyncio.sleep(0)
        for number in range(2 * AT_ONCE):
            async with asyncio.timeout(1), throttle.turn(candidate(f"good{number}")):
                pass
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)


async def test_waiting_refreshes_get_their_turns_in_order(throttle):
    order = []

    async def one(number):
        async with throttle.turn(candidate(f"one{number:03}")):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*map(one, range(100)))
    assert order == list(range(100))


async def test_a_waiter_that_is_cancelled_leaves_the_line_to_the_others(throttle):
    async with AsyncExitStack() as inside:
        for number in range(AT_ONCE):
            await inside.enter_async_context(throttle.turn(candidate(f"in{number}")))
        gone, next_ = (asyncio.create_task(probe(throttle, name, error=None)) for name in ("gone", "next"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await next_
        await probe(throttle, "later", error=None)


async def test_a_refresh_cancelled_when_it_is_woken_passes_the_turn_on(throttle, crowd):
    async with AsyncExitStack() as others:
        for _ in range(AT_ONCE - 1):
            await others.enter_async_context(throttle.turn(candidate()))
        async with throttle.turn(candidate()):
            first, second = (asyncio.create_task(crowd(1)) for _ in range(2))
            for _ in range(3):
                await asyncio.sleep(0)
        first.cancel()  # it is woken, and has not run yet
        assert await second == 1
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_refreshes_keep_the_rate_and_the_first_does_not_wait(clock):
    throttle, loop = ServerThrottle(clock, 100.0), asyncio.get_running_loop()
    times = []
    for _ in range(6):
        async with throttle.turn(candidate()):
            times.append(loop.time())
    gaps = [after - before for before, after in pairwise(times)]
    assert min(gaps) > 0.008
    assert sum(gaps) > 0.045


# -- a server that is down


async def test_one_account_alone_never_holds_up_the_others(throttle):
    for failures in range(100):
        throttle.failed(candidate("bad", failures), DOWN)
        assert throttle.is_closed


async def test_nor_do_two_that_fail_again_and_again_while_others_succeed(throttle, clock: FakeClock):
    fail(throttle)
    clock.advance(1)
    await probe(throttle, "good", error=None)
    for failures in range(1, 100):
        throttle.failed(candidate("user0", failures), DOWN)
        throttle.failed(candidate("user1", failures), DOWN)
        assert throttle.is_closed


OF_ONE_ACCOUNT = [
    AuthorizationServerError("transient", "other", status=400, refusal=True),
    AuthorizationServerError("login_required", "invalid_grant", status=400),
    AuthorizationServerError("misconfigured", "access_denied", status=403, refusal=True),
    AuthorizationServerError("misconfigured", "invalid_client", status=401),
    AuthorizationServerError("transient", "not_json"),
    AuthorizationServerError("transient", "http_400", status=400, refusal=True),
]


@pytest.mark.parametrize("error", OF_ONE_ACCOUNT, ids=lambda error: error.error)
async def test_an_error_of_an_account_or_the_client_does_not_open_it_and_proves_the_server_up(
    throttle, clock: FakeClock, error
):
    fail(throttle, 20, error)
    assert throttle.is_closed
    fail(throttle)
    assert not throttle.is_closed
    clock.advance(1)
    await probe(throttle, error=error)
    assert throttle.is_closed


OF_THE_SERVER = [
    AuthorizationServerError("transient", "timeout"),
    AuthorizationServerError("transient", "connection_lost"),
    AuthorizationServerError("transient", "http_500", status=500),
    AuthorizationServerError("transient", "other", status=520),
    AuthorizationServerError("transient", "http_429", status=429),
]


@pytest.mark.parametrize("error", OF_THE_SERVER, ids=lambda error: error.error)
async def test_several_accounts_open_it_until_one_succeeds(throttle, clock: FakeClock, error):
    fail(throttle, WITNESSES - 1, error)
    assert throttle.is_closed
    fail(throttle, error=error)
    assert not throttle.is_closed
    with pytest.raises(HeldBack):
        async with throttle.turn(candidate()):
            pytest.fail("the server is down")
    clock.advance(1)
    await probe(throttle, error=None)
    assert throttle.is_closed
    fail(throttle, 1, error)
    assert throttle.is_closed  # and it takes several again


AT_ONCE_DOWN = [
    AuthorizationServerError("transient", "unreachable", reached=False),
    AuthorizationServerError("transient", "http_503", status=503, retry_after=5.0),
]


@pytest.mark.parametrize("error", AT_ONCE_DOWN, ids=lambda error: error.error)
async def test_where_it_cannot_be_reached_or_asks_for_a_pause_one_is_enough(throttle, error):
    fail(throttle, 1, error)
    assert not throttle.is_closed


async def test_the_probe_is_the_account_that_failed_least(throttle, clock: FakeClock):
    fail(throttle)
    clock.advance(2)
    order = []

    async def one(each):
        assert throttle.admits(each)
        await asyncio.sleep(0)  # a refresh is a task of its own
        async with throttle.turn(each) as turn:
            order.append(each.key.account)
            await asyncio.sleep(0)
            turn.failed(DOWN)

    asking = [candidate("bad", 3), candidate("later", 0, 20.0), candidate("good", 0, 10.0)]
    for _ in range(2):
        outcomes = await asyncio.gather(*map(one, asking), return_exceptions=True)
        assert sum(isinstance(each, HeldBack) for each in outcomes) == 2  # they share the probe's result
        asking = [each for each in asking if each.key.account not in order]
        asking.append(candidate("good", 1, 10.0))  # it has failed now
        clock.advance(LAST)
    assert order == ["good", "later"]


async def next_probe(throttle, clock: FakeClock, failures: dict[str, int]) -> str:
    """The account that probes after the pause, if all of them ask. Its probe fails."""
    clock.advance(LAST)
    asking = [candidate(name, count) for name, count in failures.items()]
    assert all(map(throttle.admits, asking))
    probing = []

    async def one(each):
        async with throttle.turn(each) as turn:
            probing.append(each.key.account)
            await asyncio.sleep(0)
            turn.failed(DOWN)

    await asyncio.gather(*map(one, asking), return_exceptions=True)
    assert len(probing) == 1
    failures[probing[0]] += 1
    return probing[0]


async def test_accounts_that_join_an_outage_do_not_probe_again_before_the_others(throttle, clock: FakeClock):
    """They have failed less often. If that is for reasons of their own, the others would wait each time."""
    fail(throttle)
    failures = {"first": 0, "second": 0}
    for _ in range(20):
        await next_probe(throttle, clock, failures)
    failures |= {"joined": 0, "joined, too": 0}
    order = [await next_probe(throttle, clock, failures) for _ in range(12)]
    assert set(order[:2]) == {"joined", "joined, too"}
    for number in range(len(order) - 3):
        assert set(order[number : number + 4]) == set(failures)


async def test_those_whose_failures_began_the_outage_are_in_the_first_round(throttle, clock: FakeClock):
    """Each has sent its request several times by then."""
    fail(throttle)
    failures = {"user0": 3, "user1": 3, "joined": 0}
    order = [await next_probe(throttle, clock, failures) for _ in range(6)]
    assert order == ["joined", "user0", "user1", "joined", "user0", "user1"]


async def test_accounts_that_failed_before_the_outage_probe_after_the_others(throttle, clock: FakeClock):
    fail(throttle)
    failures = {"failed before": 2, "first": 0, "second": 0}
    order = [await next_probe(throttle, clock, failures) for _ in range(5)]
    assert order == ["first", "second", "first", "second", "failed before"]


async def test_another_outage_begins_with_the_accounts_as_they_are_then(throttle, clock: FakeClock):
    fail(throttle)
    for _ in range(20):
        await next_probe(throttle, clock, {"good": 0})
    clock.advance(LAST)
    await probe(throttle, "good", error=None)
    fail(throttle)
    assert await next_probe(throttle, clock, {"good": 0, "troubled": 1}) == "good"


async def test_an_account_that_no_longer_wants_to_be_the_probe_delays_no_other(
    throttle, clock: FakeClock, monkeypatch
):
    monkeypatch.setattr(throttle_module, "INTEREST", 0.1)
    fail(throttle)
    clock.advance(1)
    throttle.admits(candidate("gone"))
    waiting = asyncio.create_task(probe(throttle, "bad", 3, error=None))
    await asyncio.sleep(0.01)
    assert not throttle.is_closed
    clock.advance(0.2)
    await waiting
    assert throttle.is_closed


async def test_a_probe_without_a_verdict_makes_room_for_another(throttle, clock: FakeClock):
    fail(throttle)
    clock.advance(1)
    with pytest.raises(asyncio.CancelledError):
        async with throttle.turn(candidate("cancelled")):
            raise asyncio.CancelledError
    await probe(throttle, "another", error=None)
    assert throttle.is_closed


async def test_refreshes_waiting_behind_a_probe_share_its_result(throttle, clock: FakeClock, crowd):
    fail(throttle)
    clock.advance(1)
    for outcome in ("fails", "works"):
        async with throttle.turn(candidate("probe")) as turn:
            waiting = asyncio.create_task(crowd(20))
            await asyncio.sleep(0)
            if outcome == "fails":
                turn.failed(DOWN)
            else:
                turn.succeeded()
        if outcome == "fails":
            with pytest.raises(HeldBack):
                await waiting
            clock.advance(2)
        else:
            assert await waiting == AT_ONCE


async def test_those_that_were_under_way_when_it_went_down_count_as_one_failure(throttle, clock: FakeClock):
    fail(throttle, 100)
    assert throttle.waits_until(candidate()) - clock.boot() <= 1.0


async def test_pauses_double_up_to_half_a_minute(throttle, clock: FakeClock):
    fail(throttle)
    for number in range(10):
        pause, longest = throttle.waits_until(candidate()) - clock.boot(), min(2.0**number, LAST)
        assert longest / 2 <= pause <= longest
        clock.advance(pause)
        await probe(throttle, f"fresh{number}")


async def test_a_probe_with_failures_of_its_own_extends_the_pause_only_for_such_accounts(
    throttle, clock: FakeClock
):
    fail(throttle)
    for failures in range(1, 10):
        clock.advance(LAST)
        await probe(throttle, "bad", failures)
        assert throttle.waits_until(candidate()) - clock.boot() <= 1.0
    assert throttle.waits_until(candidate("bad", 10)) - clock.boot() >= LAST / 2


async def test_a_retry_after_sent_to_one_account_is_kept_by_all(throttle, clock: FakeClock):
    fail(throttle, 1, AuthorizationServerError("transient", "http_429", retry_after=60, status=429))
    clock.advance(59)
    assert not throttle.admits(candidate())
    clock.advance(1)
    assert throttle.admits(candidate())


async def test_after_a_correction_the_next_try_is_at_once(throttle):
    fail(throttle)
    throttle.admits(candidate("better"))
    throttle.try_now(candidate("bad").key)
    async with asyncio.timeout(1):
        await probe(throttle, "bad", 9, error=None)
    assert throttle.is_closed


async def test_pressing_again_and_again_for_an_account_with_trouble_of_its_own_holds_no_other_back(
    throttle, clock: FakeClock
):
    fail(throttle)
    good, troubled = throttle.waits_until(candidate()), throttle.waits_until(candidate("other", 3))
    for failures in range(1, 20):
        throttle.try_now(candidate("bad").key)
        assert not throttle.admits(candidate())  # of the others nobody is let in
        await probe(throttle, "bad", failures)
        assert throttle.waits_until(candidate()) == good
        assert throttle.waits_until(candidate("other", 3)) == troubled
    clock.advance(good - clock.boot())
    assert throttle.admits(candidate())


async def test_a_press_for_an_account_without_trouble_tells_of_the_server(throttle, clock: FakeClock):
    fail(throttle)
    before = throttle.waits_until(candidate())
    clock.advance(0.1)
    throttle.try_now(candidate("good").key)
    await probe(throttle, "good")
    assert throttle.waits_until(candidate()) > before


async def test_a_press_that_says_nothing_about_the_server_leaves_the_pause(throttle):
    fail(throttle)
    before = throttle.waits_until(candidate())
    throttle.try_now(candidate("bad").key)
    async with throttle.turn(candidate("bad", 1)):
        pass
    assert throttle.waits_until(candidate()) == before
    with pytest.raises(HeldBack):
        async with throttle.turn(candidate("bad", 1)):
            pass


async def test_refresh_pressed_for_one_account_during_an_outage_delays_no_other(side, monkeypatch):
    monkeypatch.undo()  # the real pauses
    bad, good = await side.log_in("bad"), await side.log_in("good")
    witness = await side.log_in("witness")
    side.clock.advance(HOUR)
    side.server.script(*[faults.status(503)] * 100)
    for account in (bad, witness):
        with pytest.raises(TokenUnavailable):
            await side.tokens.get(account)
    assert not good.throttle.is_closed
    pause = good.waits_until
    for _ in range(10):
        with pytest.raises(TokenUnavailable):
            await side.tokens.refresh_now(bad)
        assert good.waits_until == pause
    side.clock.advance(pause - side.clock.boot())
    assert good.may_start


async def test_a_lost_response_is_retried_in_the_same_turn_and_an_unsent_request_is_not(throttle):
    lost = AuthorizationServerError("transient", "timeout")
    unsent = AuthorizationServerError("transient", "unreachable", reached=False)
    async with throttle.turn(candidate("one")) as one, throttle.turn(candidate("two")) as two:
        assert one.may_repeat(DOWN)
        for turn in (one, two):
            turn.failed(lost)
        assert one.may_repeat(lost)
        assert two.may_repeat(lost)
        one.failed(unsent)
        assert not one.may_repeat(unsent)


async def test_the_only_refresh_may_repeat_and_is_the_probe(throttle, clock: FakeClock):
    unsent = AuthorizationServerError("transient", "unreachable", reached=False)
    async with throttle.turn(candidate("one")) as one:
        one.failed(unsent)
        assert one.may_repeat(unsent)
        clock.advance(LAST)
        other = asyncio.create_task(probe(throttle, "other", error=None))
        await asyncio.sleep(0.01)
        assert not other.done()
        one.succeeded()
        await other


async def test_a_hundred_accounts_of_a_server_that_is_down_cost_few_requests_and_recover_together(
    side, monkeypatch
):
    monkeypatch.undo()  # the real pauses
    names = [f"user{number}" for number in range(100)]
    for name in names:
        await side.log_in(name)
    side.clock.advance(HOUR)
    throttled = faults.status(503, headers={"Retry-After": "0"})  # no attempts in a row: no real sleep
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
    side.tokens._patience = (
        FOR_CERTAIN  # a hundred refreshes at fifty a second, on a machine that may be busy
    )
    served = await asyncio.gather(*(side.tokens.get(side.account(name)) for name in names))
    assert all(map(side.is_good, served))
    assert len(side.refreshes) <= 25 + len(names)


async def test_each_account_of_a_client_that_is_refused_is_tried_by_itself_and_slowly(side):
    for number in range(3):
        await side.log_in(f"user{number}")
    side.clock.advance(HOUR)
    side.server.script(*[faults.NAMED["invalid-client"]] * 100)
    for _ in range(HOUR // 10):
        for number in range(3):
            with pytest.raises(Misconfigured):
                await side.tokens.get(side.account(f"user{number}"))
        side.clock.advance(10)
    assert len(side.refreshes) <= 3 * (HOUR / backoff.MISCONFIGURED_PAUSE + 2)


async def test_one_spurious_refusal_of_the_client_is_soon_over(side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    side.server.script(faults.NAMED["invalid-client"])
    with pytest.raises(Misconfigured):
        await side.tokens.get(account)
    side.clock.advance(backoff.MISCONFIGURED_FIRST)
    assert side.is_good(await side.tokens.get(account))


async def test_the_back_off_of_one_account_outlives_the_recovery_of_another(side, monkeypatch):
    monkeypatch.undo()  # the real pauses
    bad, good = await side.log_in("bad"), await side.log_in("good")
    side.clock.advance(HOUR)
    side.server.script(*[faults.status(503, headers={"Retry-After": "200"})])
    with pytest.raises(TokenUnavailable):
        await side.tokens.get(bad)
    good.throttle.try_now(good.key)
    assert side.is_good(await side.tokens.get(good))
    asked = len(side.refreshes)
    with pytest.raises(TokenUnavailable):
        await side.tokens.get(bad)
    assert len(side.refreshes) == asked
