"""A process dies after it has sent a refresh token: another handles its intent within the server's grace."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.demo.faults import Fault
from proxy.errors import AuthorizationServerError
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.tokens.refresh import lease, refresh, scheduler
from tests.tokens.conftest import SEAL, FaultyStore

HOUR = 3600
STALE = 3000
GRACE = 4.5  # seconds, on the manual clock; less than servers' grace
KEY = AccountId("crm", "default")
ALL = {"get", "put", "intend", "postpone", "lease", "renew", "release", "touch", "due_before", "page"}


@pytest.fixture
async def two(make_side, clock):
    """Two processes that share a store and a server; both know the account's fresh token."""
    memory = SealedStore(MemoryStore(clock), SEAL)
    async with make_side(store=FaultyStore(memory), grace=GRACE) as one:
        await one.log_in()
        async with make_side(store=FaultyStore(memory), server=one.server) as other:
            assert other.account().state() == "valid"
            yield one, other


async def die_with_the_response(side, name: str = "default") -> None:
    """As kill -9 between sending and saving: nothing is saved, and no lease is released."""
    never = asyncio.Event()
    side.server.script(Fault(wait_after=never.wait))
    pressed = asyncio.create_task(side.tokens.refresh_now(side.account(name)))
    await side.until(lambda: not side.server.faults)
    side.store.failing = ALL
    flight = side.account(name).flight
    flight.cancel()
    await asyncio.wait((flight, pressed))


async def test_the_refresh_of_a_fresh_token_is_taken_up_within_the_grace(two, clock):
    one, other = two
    await die_with_the_response(one)
    account, old = other.account(), other.tokens.ready(other.account())
    sent_at = clock.boot()
    while account.held.generation == 1:
        assert clock.boot() - sent_at < GRACE
        clock.advance(0.5)
        await other.tokens.scheduler.look(clock.wall())
        await asyncio.sleep(3 * lease.POLL_EVERY)
    await other.landed(account)
    assert other.is_good(other.tokens.ready(account))
    assert other.tokens.ready(account) is not old
    assert len({request.refresh_token for request in other.refreshes}) == 1
    assert other.server.families_revoked == 0


async def test_at_once_where_the_sender_is_known_to_be_dead(two, clock):
    _, other = two
    *place, started = lease.this_process(clock.boot_id).split("/")
    dead = "/".join([*place, f"{started}1"])
    store = other.store._store
    assert await store.lease(f"refresh:{KEY}", f"{dead}/0", lease.LIFETIME) is None
    await store.intend(KEY, 1, json.dumps({"sender": dead}).encode())
    await store.postpone(KEY, 1, clock.wall())
    await other.tokens.scheduler.look(clock.wall())
    await other.landed(other.account())
    assert other.account().held.generation == 2


async def test_a_lease_that_ended_before_our_eyes_is_not_waited_for_once_more(two, clock, monkeypatch):
    monkeypatch.setattr(refresh, "TIME_TO_SAVE", 60.0)
    one, other = two
    await die_with_the_response(one)
    await other.tokens.scheduler.look(clock.wall())
    await asyncio.sleep(3 * lease.POLL_EVERY)
    clock.advance(lease.LIFETIME)
    async with asyncio.timeout(5):
        await other.landed(other.account())
    assert other.account().held.generation == 2
    assert other.server.families_revoked == 0


async def test_the_intent_is_there_when_the_index_leads_to_it(make_side, clock):
    """Otherwise another process checks in between, finds no intent, and postpones the account."""
    store, calls = FaultyStore(SealedStore(MemoryStore(clock), SEAL)), []
    async with make_side(store=store) as side:
        await side.log_in()
        for name in ("intend", "postpone"):
            act = getattr(store, name)

            async def noted(*args, name=name, act=act):
                calls.append(name)
                await act(*args)

            setattr(store, name, noted)
        await side.tokens.refresh_now(side.account())
        assert calls == ["intend", "postpone"]


async def test_a_process_does_not_postpone_its_own_refresh(side, clock):
    account, response = await side.log_in(), asyncio.Event()
    side.server.script(Fault(wait_before=response.wait))
    pressed = asyncio.create_task(side.tokens.refresh_now(account))
    await side.until(lambda: not side.server.faults)
    for _ in range(3):
        await side.tokens.scheduler.look(clock.wall())
        assert [due.key for due in await side.store.due_before(["crm"], clock.wall() + 1, 9)] == [KEY]
    response.set()
    await pressed


WHY = ["fresh", "idle", "held back"]


@pytest.mark.parametrize("why", WHY)
async def test_in_any_state_of_the_account_in_the_living_process(make_side, clock, why):
    memory = SealedStore(MemoryStore(clock), SEAL)
    async with make_side(store=FaultyStore(memory), grace=GRACE) as one:
        await one.log_in("ann")
        async with make_side(store=FaultyStore(memory), server=one.server) as other:
            account = other.account("ann")
            if why != "fresh":
                clock.advance(STALE)
            if why == "idle":
                clock.advance(30 * 24 * HOUR)
                account.used_at = clock.boot() - 29 * 24 * HOUR
            elif why == "held back":
                account.failed(AuthorizationServerError("misconfigured", "invalid_client"), attempts=2)
                account.in_doubt = False
            await other.tokens.scheduler.look(clock.wall())  # it is postponed
            assert account.flight is None
            await die_with_the_response(one, "ann")
            clock.advance(lease.LIFETIME)
            await other.tokens.scheduler.look(clock.wall())
            await other.landed(account)
            assert account.held.generation == 2
            assert other.server.families_revoked == 0


async def test_a_record_is_not_read_again_where_the_index_is_right(make_side, faulty_store, clock):
    async with make_side(store=faulty_store) as side:
        account = await side.log_in()
        faulty_store.calls.clear()
        clock.advance(account.fresh_until - clock.boot() - 0.5)
        for _ in range(3):
            await side.tokens.scheduler.look(clock.wall())
        assert faulty_store.calls["get"] == 0


def test_a_takeover_fits_into_the_shortest_grace():
    assert lease.LIFETIME + refresh.TIME_TO_SAVE < lease.SHORTEST_GRACE
    assert scheduler.LOOK_AGAIN < lease.LIFETIME  # the wait for the lease begins before it ends
