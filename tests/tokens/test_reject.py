"""What happens to a token that an upstream answered with 401."""

from __future__ import annotations

import asyncio

import pytest

from proxy.demo import faults
from proxy.demo.faults import Fault
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


async def test_in_the_pause_after_a_failure_nobody_is_asked(side):
    account = await side.log_in()
    side.server.script(faults.NAMED["too-many-requests"])
    side.clock.advance(STALE)
    rejected = side.tokens.ready(account)
    await side.landed(account)
    assert side.tokens.reject(account, rejected) is None
    side.clock.advance(7)
    assert side.is_good(await side.tokens.reject(account, rejected))


@pytest.mark.parametrize("lost", ["login_required", "logged_out"])
async def test_where_only_a_person_can_help_the_401_passes(side, lost):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    if lost == "logged_out":
        await side.tokens.forget(account.key)
    else:
        side.server.script(faults.NAMED["invalid-grant"])
        assert await side.tokens.reject(account, rejected) is None
        side.clock.advance(REJECT_PAUSE)
    assert side.tokens.reject(account, rejected) is None
    assert len(side.refreshes) <= 1


async def test_who_does_not_wait_for_the_replacement_leaves_the_refresh_flying(side):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    waiting = side.tokens.reject(account, rejected)
    await asyncio.sleep(0)
    waiting.cancel()
    await side.landed(account)
    assert side.tokens.ready(account) is not rejected
    assert len(side.refreshes) == 1


async def test_a_replacement_that_nobody_wants_leaves_nothing_behind(side):
    account = await side.log_in()
    rejected = side.tokens.ready(account)
    await side.tokens.refresh_now(account)
    side.tokens.reject(account, rejected)  # known at once, and dropped: a coroutine would complain
