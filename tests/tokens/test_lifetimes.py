"""Tokens of unknown lifetime, servers that refuse early refreshes, and short lifetimes."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from proxy.demo import faults
from proxy.demo.serve import running
from proxy.errors import TokenUnavailable
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.manager import REJECT_PAUSE
from proxy.tokens.refresh import introspection as introspection_module
from proxy.tokens.refresh import scheduler
from proxy.tokens.saved import codec
from tests.tokens.conftest import SEAL

HOUR = 3600
SILENT = faults.NAMED["no-expires-in"]


async def token_of(side):
    return codec.decode((await side.stored()).body)


# -- introspection


@pytest.fixture
async def introspection():
    """An introspection endpoint that responds with `says` (a status if it is a number), and counts."""

    class Endpoint:
        says: dict | int = 200
        hits = 0
        wait = 0.0

        async def respond(self, _request):
            self.hits += 1
            await asyncio.sleep(self.wait)
            if isinstance(self.says, int):
                return web.Response(status=self.says)
            return web.json_response(self.says)

    endpoint, app = Endpoint(), web.Application()
    app.router.add_post("/", endpoint.respond)
    async with running(app) as url:
        endpoint.keys = f'client_id = "web"\nintrospection_endpoint = "{url}/"'
        yield endpoint


async def test_an_unstated_lifetime_is_introspected_once_per_token_and_saved(make_side, introspection):
    async with make_side(credential=introspection.keys) as side:
        account = await side.log_in()
        assert introspection.hits == 0, "its lifetime is known"
        introspection.says = {"active": True, "exp": 1_800_003_600 + 600, "iat": 1_800_003_600}
        side.clock.advance(HOUR)
        side.server.script(SILENT)
        await side.tokens.get(account)
        token = await token_of(side)
        assert 0 < token.lifetime <= 600
        assert account.held.token == token
        side.clock.advance(token.lifetime / 2)
        for _ in range(3):
            await side.tokens.get(account)
        assert introspection.hits == 1
        assert len(side.refreshes) == 1
        async with make_side(server=side.server, store=side.store, credential=introspection.keys) as other:
            await other.tokens.get(other.account())
            assert introspection.hits == 1
            assert (await token_of(other)) == token


async def test_the_new_refresh_token_is_saved_before_anything_is_asked(make_side, introspection):
    introspection.wait = 0.2
    async with make_side(credential=introspection.keys) as side:
        account = await side.log_in()
        side.server.script(SILENT)
        refreshing = asyncio.create_task(side.tokens.refresh_now(account))
        await side.until(lambda: introspection.hits)
        assert (await side.stored()).generation == 2
        await refreshing


TROUBLES = [500, 401, 302, {"active": False}, {"active": True}, {"active": True, "exp": 1}, {}]


@pytest.mark.parametrize("trouble", TROUBLES, ids=json.dumps)
async def test_introspection_that_fails_costs_nothing_but_its_request(make_side, introspection, trouble):
    introspection.says = trouble
    async with make_side(credential=introspection.keys) as side:
        account = await side.log_in()
        side.clock.advance(HOUR)
        side.server.script(SILENT)
        assert side.is_good(await side.tokens.get(account))
        assert (account.failures, account.held.token.lifetime, introspection.hits) == (0, None, 1)
        assert (await side.stored()).generation == 2


async def test_introspection_that_hangs_is_not_waited_for_long(make_side, introspection, monkeypatch):
    monkeypatch.setattr(introspection_module, "INTROSPECTION_WAIT", 0.05)
    introspection.wait = 1.0
    async with make_side(credential=introspection.keys) as side:
        account = await side.log_in()
        side.clock.advance(HOUR)
        side.server.script(SILENT)
        async with asyncio.timeout(0.9):
            assert side.is_good(await side.tokens.get(account))


async def test_a_store_that_fails_after_it_was_asked_loses_nothing(make_side, introspection, faulty_store):
    introspection.says = {"active": True, "exp": 1_900_000_000}
    introspection.wait = 0.1
    async with make_side(store=faulty_store, credential=introspection.keys) as side:
        account = await side.log_in()
        side.server.script(SILENT)
        refreshing = asyncio.create_task(side.tokens.refresh_now(account))
        await side.until(lambda: introspection.hits)
        faulty_store.failing = {"put"}
        await refreshing
        assert side.is_good(side.tokens.ready(account))
        assert account.held.generation == 2


# -- learned from 401s


async def live_and_be_refused(side, account, seconds: float) -> None:
    side.server.script(SILENT)
    side.clock.advance(seconds)
    assert await side.tokens.reject(account, account.attachment)


async def test_the_age_at_a_401_is_learned_and_survives_a_restart(side, make_side):
    account = await side.log_in()
    side.server.script(SILENT)
    await side.tokens.refresh_now(account)
    assert account.held.due_at - side.clock.wall() > 0.7 * HOUR
    await live_and_be_refused(side, account, 600)
    assert (await token_of(side)).observed_lifetimes == (600,)
    assert 430 <= account.held.due_at - side.clock.wall() <= 480
    async with make_side(server=side.server, store=side.store) as other:
        account = other.account()
        assert account.held.token.observed_lifetimes == (600,)
        other.server.script(SILENT)
        await other.tokens.refresh_now(account)
        assert account.held.due_at - other.clock.wall() <= 480


async def test_a_token_of_unknown_lifetime_is_attached_until_a_401_whatever_was_learned(side):
    account = await side.log_in()
    side.server.script(SILENT)
    await side.tokens.refresh_now(account)
    await live_and_be_refused(side, account, 600)
    side.server.script(*[faults.NAMED["outage"]] * 100)
    side.clock.advance(10 * HOUR)
    assert side.tokens.ready(account)
    await side.landed(account)


async def test_an_upstream_that_refuses_everything_teaches_nothing(side):
    account = await side.log_in()
    side.server.script(SILENT)
    await side.tokens.refresh_now(account)
    for _ in range(10):
        await live_and_be_refused(side, account, REJECT_PAUSE)
    assert account.held.token.observed_lifetimes == ()
    assert account.held.due_at - side.clock.wall() > 0.7 * HOUR


# -- a server that hands the same access token out again


async def test_the_second_response_sets_the_lifetime_of_the_same_access_token(side):
    account = await side.log_in()
    served, same = side.tokens.ready(account), (await token_of(side)).access_token.reveal()
    side.clock.advance(3000)
    side.server.script(faults.Fault(change={"access_token": same, "expires_in": 600}))
    await side.tokens.refresh_now(account)
    assert (account.state(), account.failures) == ("valid", 0)
    assert account.usable_until - side.clock.boot() == 600 - 5
    assert await side.tokens.reject(account, served) is not served


# -- servers that refuse early refreshes

EXACT = 'client_id = "web"\nrefresh_window = 30'


async def test_nothing_refreshes_before_the_window_opens_and_all_works_in_it(make_side):
    async with make_side(credential=EXACT) as side:
        account = await side.log_in()
        for _ in range(3):
            served = side.tokens.ready(account)
            side.clock.advance(HOUR - 31)
            assert side.tokens.ready(account) is served
            assert side.tokens.reject(account, served) is None, "the server would refuse: the 401 passes"
            refreshes = len(side.refreshes)
            side.clock.advance(8)
            assert side.tokens.ready(account) is served
            await side.landed(account)
            assert len(side.refreshes) == refreshes + 1
            assert side.tokens.ready(account) is not served


async def test_once_expired_it_is_refreshed_at_any_time(make_side):
    async with make_side(credential=EXACT) as side:
        account = await side.log_in()
        side.clock.advance(3 * HOUR)
        assert side.is_good(await side.tokens.get(account))


# -- short lives

LIVES = [1, 2, 5, 10, 60]


@pytest.mark.parametrize("lifetime", LIVES)
async def test_a_short_life_makes_no_loop_and_no_expired_token_is_attached(make_side, lifetime, monkeypatch):
    monkeypatch.setattr(scheduler, "LOOK_AGAIN", 0.002)
    monkeypatch.setattr(scheduler, "AT_LEAST", 0.002)
    async with make_side(access_token_lifetime=lifetime) as side:
        account = await side.log_in()
        async with side.kept_fresh():
            for _ in range(100):
                side.clock.advance(lifetime / 10)
                await asyncio.sleep(0.004)
                await side.landed(account)
                served = side.tokens.ready(account) or await side.tokens.get(account)
                assert side.is_good(served)
        assert len(side.refreshes) <= 10 / 0.72 + 1
        assert side.server.families_revoked == 0


async def test_a_life_shorter_than_the_way_there_ends_in_pauses_and_not_in_a_loop(make_side):
    async with make_side(access_token_lifetime=1) as side:
        account = await side.log_in()
        side.clock.advance(1)

        async def slow():
            side.clock.advance(2)

        side.server.script(*[faults.Fault(wait_after=slow)] * 5)
        with pytest.raises(TokenUnavailable):
            await side.tokens.get(account)
        for _ in range(20):
            with pytest.raises(TokenUnavailable):
                await side.tokens.get(account)
        assert len(side.refreshes) == 1


async def test_a_record_of_an_earlier_version_is_used_and_refreshed(make_side):
    async with make_side() as side:
        token = side.issued()
        old = {
            name: value
            for name, value in json.loads(codec.encode(token)).items()
            if name not in {"refresh_in", "skew", "refresh_renews", "login_at", "ages", "unrefused"}
        }
        await side.log_in()
        record = await side.stored()
        store = SealedStore(MemoryStore(side.clock), SEAL)
        await store.put(
            type(record)(
                AccountId("crm", "default"),
                1,
                "valid",
                record.due_at,
                record.expires_at,
                json.dumps(old).encode(),
            ),
            expected=0,
        )
        async with make_side(server=side.server, store=store) as later:
            account = later.account()
            assert later.is_good(later.tokens.ready(account))
            later.clock.advance(HOUR)
            assert later.is_good(await later.tokens.get(account))
            assert (await token_of(later)).skew == 0.0
