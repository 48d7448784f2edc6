"""The token of a request: at once, or after one refresh that all requests share."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

import pytest

from proxy.demo import faults
from proxy.demo.faults import Fault
from proxy.errors import LoginRequired, TokenUnavailable
from proxy.store.watchers import Watchers
from proxy.tokens import accounts
from tests.tokens.conftest import FaultyStore

HOUR = 3600
STALE = 3000  # seconds after which a token of an hour is stale
HERD = 500


async def test_a_fresh_token_is_used_without_a_refresh(side):
    account = await side.log_in()
    served = side.tokens.ready(account)
    assert side.is_good(served)
    assert await side.tokens.get(account) is served
    assert account.flight is None
    assert side.refreshes == []


async def test_a_stale_token_is_used_while_one_refresh_runs(side):
    account = await side.log_in()
    old = side.tokens.ready(account)
    side.clock.advance(STALE)
    throttle = asyncio.Event()
    side.server.script(Fault(wait_before=throttle.wait))
    assert account.state() == "stale"
    assert [side.tokens.ready(account) for _ in range(HERD)] == [old] * HERD
    throttle.set()
    await side.landed(account)
    assert len(side.refreshes) == 1
    new = side.tokens.ready(account)
    assert new is not old
    assert side.is_good(new)
    assert account.state() == "valid"


async def test_500_callers_of_an_expired_token_cause_one_refresh_and_share_its_token(side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    assert side.tokens.ready(account) is None
    served = await asyncio.gather(*(side.tokens.get(account) for _ in range(HERD)))
    assert len(set(served)) == 1
    assert side.is_good(served[0])
    assert len(side.refreshes) == 1
    assert side.server.families_revoked == 0


async def test_callers_that_hang_up_do_not_cancel_the_refresh(side):
    account = await side.log_in()
    side.clock.advance(HOUR)
    throttle = asyncio.Event()
    side.server.script(
        Fault(wait_after=throttle.wait)
    )  # the rotation has happened, the response is under way
    callers = [asyncio.create_task(side.tokens.get(account)) for _ in range(50)]
    await side.until(lambda: account.flight is not None)
    for caller in callers:
        caller.cancel()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    throttle.set()
    await side.landed(account)
    assert side.is_good(side.tokens.ready(account))
    assert (await side.stored()).generation == 2


async def test_a_caller_waits_no_longer_than_it_may_and_the_refresh_goes_on(side, monkeypatch):
    monkeypatch.setattr(side.tokens, "_patience", 0.05)
    account = await side.log_in()
    side.clock.advance(HOUR)
    throttle = asyncio.Event()
    side.server.script(Fault(wait_before=throttle.wait))
    with pytest.raises(TokenUnavailable) as caught:
        await side.tokens.get(account)
    assert caught.value.retry_after == 1
    throttle.set()
    await side.landed(account)
    assert side.is_good(await side.tokens.get(account))
    assert len(side.refreshes) == 1


async def test_accounts_refresh_side_by_side(side):
    names = [f"user{number}" for number in range(20)]
    for name in names:
        await side.log_in(name)
    side.clock.advance(HOUR)
    served = await asyncio.gather(*(side.tokens.get(side.account(name)) for name in names))
    assert len(set(served)) == 20
    assert len(side.refreshes) == 20


async def test_nobody_has_logged_in(side):
    account = side.account()
    with pytest.raises(LoginRequired, match="crm/default: nobody has logged in yet; run `token-proxy login"):
        await side.tokens.get(account)
    assert account.state() == "absent"
    assert side.refreshes == []


async def test_a_request_before_the_login_does_not_keep_later_ones_from_the_token(side):
    account = side.account()  # as a route references it, from the start on
    with pytest.raises(LoginRequired):
        await side.tokens.get(account)
    await side.log_in()
    assert side.is_good(side.tokens.ready(account))


async def test_an_account_without_a_login_takes_no_memory(side):
    for number in range(1000):
        with pytest.raises(LoginRequired):
            await side.tokens.get(side.account(f"nobody{number}"))
    gc.collect()
    assert [account.key.account for account in side.tokens.accounts()] == ["default"]
    assert len(side.tokens._accounts._all) == 1


async def test_requests_for_one_name_at_once_share_one_account_and_one_refresh(make_side, side):
    await side.log_in("ann")
    side.clock.advance(HOUR)
    async with make_side(server=side.server, store=side.store, started=False) as other:
        served = await asyncio.gather(*(other.tokens.get(other.account("ann")) for _ in range(100)))
        assert len(set(served)) == 1
    assert len(side.refreshes) == 1


async def test_memory_does_not_grow_with_the_accounts_in_the_store(make_side, monkeypatch):
    monkeypatch.setattr(accounts, "KEPT", 5)
    async with make_side() as side:
        for number in range(20):
            await side.log_in(f"user{number}")
        gc.collect()
        assert len(side.tokens.accounts()) == 6  # and the configured account
        assert side.is_good(await side.tokens.get(side.account("user0")))  # read anew


async def test_a_store_that_is_down_at_the_first_request(make_side, faulty_store, caplog):
    async with make_side(store=faulty_store, started=False) as side:
        await side.log_in("ann")
        async with make_side(store=faulty_store, server=side.server, started=False) as other:
            faulty_store.failing = {"get"}
            for _ in range(5):
                with pytest.raises(TokenUnavailable) as caught:
                    await other.tokens.get(other.account("ann"))
            assert caught.value.retry_after == 5
            assert str(caught.value) == "the token store can't be read now"
            assert caplog.text.count("the disk is full") == 1  # logged once, not with every request
            faulty_store.failing = set()
            assert side.is_good(await other.tokens.get(other.account("ann")))


async def test_a_store_that_is_down_does_not_matter_while_a_token_is_fresh(make_side, faulty_store):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in()
        faulty_store.failing = {"get", "put", "intend", "lease", "release"}
        assert side.is_good(await side.tokens.get(account))


async def test_a_slow_read_does_not_bring_an_old_token_back(make_side, faulty_store):
    async with make_side(store=faulty_store, started=False) as side:
        account = await side.log_in()
        throttle, get = asyncio.Event(), faulty_store._store.get

        async def get_slowly(key):
            faulty_store._store.get = get
            record = await get(key)
            await throttle.wait()
            return record

        faulty_store._store.get = get_slowly
        reading = asyncio.create_task(side.tokens._accounts.load(account))
        await asyncio.sleep(0)
        await side.tokens.refresh_now(account)
        new = side.tokens.ready(account)
        throttle.set()
        await reading
        assert side.tokens.ready(account) is new
        assert account.held.generation == 2


async def test_changes_of_others_during_the_start_are_not_missed(make_side, side):
    async with make_side(server=side.server, store=FaultyStore(side.store), started=False) as other:
        page = side.store.page

        async def page_and_then(after, limit):
            records = await page(after, limit)
            await side.log_in("ann")
            return records

        other.store.page = page_and_then
        await other.tokens.start()
        await other.until(lambda: other.account("ann").state() == "valid")


class CutOff(FaultyStore):
    """A store that reports no change until `news.tell`, as after an outage."""

    def __init__(self, store):
        super().__init__(store)
        self.news = Watchers()

    def changes(self):
        return self.news.add()


async def test_after_a_gap_also_an_account_without_tokens_is_read_again(make_side, side):
    store = CutOff(side.store)
    async with make_side(server=side.server, store=store) as other:
        account = other.account("ann")  # as a long request references it
        with pytest.raises(LoginRequired):
            await other.tokens.get(account)
        await side.log_in("ann")
        store.news.tell([None])
        await other.until(lambda: account.state() == "valid")
        assert side.is_good(await other.tokens.get(account))


async def test_a_change_that_could_not_be_read_is_read_by_the_next_request(make_side, side):
    store = CutOff(side.store)
    async with make_side(server=side.server, store=store) as other:
        account = other.account()
        await side.log_in()
        store.failing = {"get"}
        store.news.tell([account.key])
        await other.until(lambda: store.calls["get"] > 1)
        store.failing = set()
        assert side.is_good(await other.tokens.get(account))


async def test_a_change_that_could_not_be_read_is_read_later_without_requests(make_side, side):
    store = CutOff(side.store)
    async with make_side(server=side.server, store=store) as other:
        await side.log_in()
        store.failing = {"get"}
        store.news.tell([None])
        await other.until(lambda: store.calls["get"] > 1)
        store.failing = set()
        async with other.kept_fresh():
            await other.until(lambda: other.account().state() == "valid")


async def test_client_credentials_need_nobody(make_side):
    async with make_side(grant="client_credentials") as side:
        account = side.account()
        served = await asyncio.gather(*(side.tokens.get(account) for _ in range(50)))
        assert len(set(served)) == 1
        assert side.is_good(served[0])
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert Counter(request.grant_type for request in side.server.token_requests) == {
            "client_credentials": 2
        }
        await side.logins.log_out(account.key)
        assert account.state() == "absent"
        assert side.is_good(await side.tokens.get(account))  # the configuration still allows it


async def test_a_token_of_unknown_lifetime_is_used_until_a_401(side):
    account = await side.log_in()
    side.server.script(faults.NAMED["no-expires-in"])
    await side.tokens.refresh_now(account)
    assert account.state() == "valid"
    side.clock.advance(100 * HOUR)
    assert account.state() == "stale"  # it is refreshed as if it lived an hour
    side.server.script(*[faults.NAMED["outage"]] * 3)
    assert side.tokens.ready(account) is not None
    await side.landed(account)
    assert side.tokens.ready(account) is not None


async def test_a_token_that_expires_before_it_arrives_is_retried_with_pauses(side):
    account = await side.log_in()
    side.clock.advance(HOUR)

    async def take_two_seconds():
        side.clock.advance(2)

    side.server.script(*[Fault(wait_before=take_two_seconds, change={"expires_in": 1})] * 10)
    for _ in range(10):
        with pytest.raises(TokenUnavailable):
            await side.tokens.get(account)
    assert len(side.refreshes) == 1
    assert account.last_refresh.error == "expires_in"
