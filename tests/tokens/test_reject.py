"""The effects of an upstream's 401 to a token."""

from __future__ import annotations

import asyncio

import pytest

from proxy.demo import faults
from proxy.demo.faults import Fault
from proxy.errors import LoginRequired, TokenUnavailable
from proxy.tokens.manager import REJECT_PAUSE

HOUR = 3600
STALE = 3000


async def test_the_current_token_is_refreshed_once_and_replaced(side):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    better = await side.tokens.reject(account, rejected)
    assert better is not rejected
    assert side.is_good(better)
    assert side.tokens.ready(account) is better
    assert len(side.refreshes) == 1


async def test_a_token_that_was_replaced_meanwhile_asks_for_no_refresh(side):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    await side.tokens.refresh_now(account)
    assert await side.tokens.reject(account, rejected) is side.tokens.ready(account)
    assert len(side.refreshes) == 1


async def test_many_401s_at_once_share_one_refresh(side):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    replacements = await asyncio.gather(*(side.tokens.reject(account, rejected) for _ in range(100)))
    assert set(replacements) == {side.tokens.ready(account)}
    assert len(side.refreshes) == 1


async def test_an_upstream_that_refuses_every_token_causes_one_refresh_in_thirty_seconds(side):
    account = await side.log_in()
    for _ in range(2):
        before = len(side.refreshes)
        assert await side.tokens.reject(account, side.tokens.ready(account))
        for _ in range(5):
            assert side.tokens.reject(account, side.tokens.ready(account)) is None
        side.clock.advance(REJECT_PAUSE - 0.1)
        assert side.tokens.reject(account, side.tokens.ready(account)) is None
        assert len(side.refreshes) == before + 1
        side.clock.advance(0.1)


async def test_a_refresh_that_is_under_way_anyway_is_shared(side):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    side.clock.advance(STALE)
    throttle = asyncio.Event()
    side.server.script(Fault(wait_before=throttle.wait))
    side.tokens.ready(account)
    replacing = side.tokens.reject(account, rejected)
    throttle.set()
    assert await replacing is side.tokens.ready(account)
    assert len(side.refreshes) == 1


async def test_a_refresh_that_fails_passes_the_401_on_and_keeps_the_token(side):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    side.server.script(*[faults.NAMED["outage"]] * 3)
    assert await side.tokens.reject(account, rejected) is None
    assert side.tokens.ready(account) is rejected


async def test_no_request_is_sent_in_the_pause_after_a_failure(side):
    account = await side.log_in()
    side.server.script(faults.NAMED["too-many-requests"])
    side.clock.advance(STALE)
    rejected = side.tokens.ready(account)
    await side.landed(account)
    assert side.tokens.reject(account, rejected) is None
    side.clock.advance(7)
    assert side.is_good(await side.tokens.reject(account, rejected))


async def test_after_a_logout_the_401_passes(side):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    await side.tokens.forget(account.key)
    assert side.tokens.reject(account, rejected) is None
    assert side.refreshes == []


REFUSED = {"revoked": faults.NAMED["invalid-grant"], "in other words": faults.status(400)}


@pytest.mark.parametrize("words", REFUSED)
async def test_a_token_that_neither_the_upstream_nor_its_server_takes_is_not_usable(make_side, side, words):
    """A person has revoked it at the server: an hour of 401s without a diagnosis would help nobody."""
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    side.server.script(*[REFUSED[words]] * 9)
    assert await side.tokens.reject(account, rejected) is None  # this one succeeds
    assert (account.state(), account.is_usable) == ("login_required", False)
    assert side.tokens.ready(account) is None
    with pytest.raises(LoginRequired):
        await side.tokens.get(account)
    async with make_side(server=side.server, store=side.store) as command:  # or a command
        assert (command.account().state(), command.account().is_usable) == ("login_required", False)
        with pytest.raises(LoginRequired):
            await command.tokens.get(command.account())
    assert len(side.refreshes) == 1


async def test_a_401_after_the_refusal_ends_it_for_all_processes(make_side, side):
    account = await side.log_in()
    served = side.tokens.ready(account)
    side.clock.advance(STALE)
    side.server.script(*[faults.NAMED["invalid-grant"]] * 2)
    for _ in range(2):
        assert side.tokens.ready(account) is served
        await side.landed(account)
        side.clock.advance(60)
    assert (account.state(), account.is_usable) == ("login_required", True)
    async with make_side(server=side.server, store=side.store) as other:
        assert other.account().is_usable
        assert side.tokens.reject(account, served) is None
        assert not account.is_usable
        await side.landed(account)
        await other.until(lambda: not other.account().is_usable)
    assert len(side.refreshes) == 2


async def test_a_401_between_two_refusals_leaves_no_time_to_wait(side):
    account = await side.log_in()
    served = side.tokens.ready(account)
    side.clock.advance(STALE)
    side.server.script(*[faults.NAMED["invalid-grant"]] * 2)
    side.tokens.ready(account)
    await side.landed(account)
    assert (account.state(), account.is_usable) == ("stale", True)
    assert await side.tokens.reject(account, served) is None
    assert (account.state(), account.is_usable) == ("login_required", False)


async def test_a_401_while_a_refresh_is_refused_counts_too(side):
    account = await side.log_in()
    served = side.tokens.ready(account)
    side.clock.advance(STALE)
    responds = asyncio.Event()
    refused = faults.NAMED["invalid-grant"].answer
    side.server.script(Fault(wait_before=responds.wait, answer=refused), Fault(answer=refused))
    side.tokens.ready(account)
    await side.until(lambda: not side.server.faults or len(side.server.faults) == 1)
    replacing = side.tokens.reject(account, served)
    responds.set()
    assert await replacing is None
    assert not account.is_usable
    with pytest.raises(LoginRequired):
        await side.tokens.get(account)


async def test_while_the_server_is_only_unreachable_the_token_stays_in_use(side):
    account = await side.log_in()
    served = side.tokens.ready(account)
    side.server.script(*[faults.NAMED["outage"]] * 3)
    assert await side.tokens.reject(account, served) is None
    assert side.tokens.ready(account) is served


async def test_a_new_token_forgets_that_the_old_one_was_refused(side):
    account = await side.log_in()
    assert await side.tokens.reject(account, side.tokens.ready(account))
    assert not account.is_rejected
    side.clock.advance(STALE)
    side.server.script(faults.NAMED["invalid-grant"])
    served = side.tokens.ready(account)
    await side.landed(account)
    assert side.tokens.ready(account) is served


async def test_a_caller_that_does_not_wait_for_the_replacement_does_not_end_the_refresh(side):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    waiting = side.tokens.reject(account, rejected)
    await asyncio.sleep(0)
    waiting.cancel()
    await side.landed(account)
    assert side.tokens.ready(account) is not rejected
    assert len(side.refreshes) == 1


async def test_an_unused_replacement_leaves_nothing_behind(side):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    await side.tokens.refresh_now(account)
    side.tokens.reject(account, rejected)  # known at once, and dropped: a coroutine would warn


async def test_a_401_here_and_a_refusal_there_are_put_together(make_side, side):
    account = await side.log_in()
    async with make_side(server=side.server, store=side.store) as other:
        assert other.account().state() == "valid"
        side.server.script(*[faults.NAMED["invalid-grant"]] * 2)
        with pytest.raises(TokenUnavailable):
            await side.tokens.refresh_now(account)
        side.clock.advance(31)
        with pytest.raises(LoginRequired):
            await side.tokens.refresh_now(account)
        assert account.is_usable
        theirs = other.account()
        await other.until(lambda: theirs.state() == "login_required")
        assert other.tokens.reject(theirs, other.tokens.ready(theirs)) is None
        await side.until(lambda: not account.is_usable)
        assert side.tokens.ready(account) is None
