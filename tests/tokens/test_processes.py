"""Several processes with one store and one authorization server that accepts a refresh token once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.demo import faults
from proxy.demo.faults import Fault
from proxy.errors import LoginRequired, TokenUnavailable
from proxy.store.base import AccountId
from proxy.tokens.refresh import lease
from tests.fakes.clock import FakeClock
from tests.tokens.conftest import Side

HOUR = 3600
STALE = 3000
SECOND = 1.0
KEY = AccountId("crm", "default")
FLIER = Path(__file__).with_name("flier.py")


@pytest.fixture
def clock():
    """The clock of one machine, shared by its processes; it advances only on request."""
    real = SystemClock()
    return FakeClock(real.wall(), real.boot(), real.boot_id)


@pytest.fixture
def processes(make_side, make_server, open_sqlite):
    """`async with processes(3, grace=…) as (a, b, c)`: each with its own connection."""

    @asynccontextmanager
    async def make(count, *, grant="authorization_code", **options):
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(make_server(**options))
            yield [
                await stack.enter_async_context(
                    make_side(server=server, store=await open_sqlite(), grant=grant)
                )
                for _ in range(count)
            ]

    return make


async def get(side):
    return await side.tokens.get(side.account())


async def seen(side, done) -> float:
    """Wait until this process sees it; returns the seconds."""
    started = time.monotonic()
    await side.until(done)
    return time.monotonic() - started


async def test_one_refresh_for_all_processes_and_no_refresh_token_is_used_twice(processes):
    async with processes(3) as sides:
        await sides[0].log_in()
        for side in sides:
            await side.until(lambda side=side: side.account().state() == "valid")
        for refreshed in range(1, 4):
            sides[0].clock.advance(HOUR)
            served = await asyncio.gather(*(get(side) for side in sides for _ in range(50)))
            assert len({one.fields for one in served}) == 1
            assert sides[0].is_good(served[0])
            assert len(sides[0].refreshes) == refreshed
        assert sides[0].server.families_revoked == 0


async def test_a_process_waits_for_a_refresh_of_another(processes):
    async with processes(2) as (first, second):
        await first.log_in()
        await second.until(lambda: second.account().state() == "valid")
        first.clock.advance(HOUR)
        throttle = asyncio.Event()
        first.server.script(Fault(wait_after=throttle.wait))
        one = asyncio.create_task(get(first))
        await first.until(lambda: not first.server.faults)
        two = asyncio.create_task(get(second))
        await asyncio.sleep(3 * lease.POLL_EVERY)
        assert not two.done()
        throttle.set()
        assert (await one).fields == (await two).fields
        assert len(first.refreshes) == 1


async def test_client_credentials_are_asked_for_once_by_all_processes(processes):
    async with processes(3, grant="client_credentials") as sides:
        for asked in (1, 2):
            served = await asyncio.gather(*(get(side) for side in sides for _ in range(20)))
            assert len({one.fields for one in served}) == 1
            assert len(sides[0].server.token_requests) == asked
            sides[0].clock.advance(HOUR)


async def test_changes_of_one_process_are_seen_by_others_within_a_second(processes):
    async with processes(2) as (one, other):
        account = other.account()
        with pytest.raises(LoginRequired):
            await get(other)

        await one.log_in()
        assert await seen(other, lambda: account.state() == "valid") < SECOND
        first = other.tokens.ready(account)

        await one.tokens.refresh_now(one.account())
        assert await seen(other, lambda: other.tokens.ready(account) is not first) < SECOND
        assert other.is_good(other.tokens.ready(account))

        await one.logins.log_out(KEY)
        assert await seen(other, lambda: account.state() == "absent") < SECOND
        with pytest.raises(LoginRequired):
            await get(other)


@pytest.mark.parametrize("seed", range(4))
async def test_three_processes_never_lose_a_refresh_token_or_use_it_twice(processes, seed):
    chance = random.Random(seed)
    async with processes(3, grace=30) as sides:
        server, clock = sides[0].server, sides[0].clock
        for _ in range(12):
            await asyncio.gather(*(act(chance, chance.choice(sides)) for _ in range(6)))
            for side in sides:
                await side.landed(side.account())  # or an hour would pass between two of its attempts
            if chance.random() < 0.5:
                server.script(chance.choice([faults.NAMED["drop-before"], faults.NAMED["drop-after-commit"]]))
            clock.advance(chance.choice([1, STALE, HOUR]))
        assert "reuse_detected" not in {request.outcome for request in server.token_requests}
        assert {request.error for request in sides[0].refreshes} <= {None}
        server.faults.clear()
        await sides[0].log_in()
        for side in sides:
            await side.until(lambda side=side: side.account().state() == "valid")
            assert side.is_good(await get(side))


async def act(chance: random.Random, side: Side) -> None:
    """One action of a caller, a person or the scheduler. None of them ever gets an invalid token."""
    action = chance.choice(["get", "get", "get", "refresh", "reject", "log in", "forget"])
    with contextlib.suppress(LoginRequired, TokenUnavailable):
        if action == "log in":
            await side.log_in()
        elif action == "forget":
            await side.tokens.forget(KEY)
        elif action == "refresh":
            await side.tokens.refresh_now(side.account())
        else:
            served = await get(side)
            assert side.is_good(served)
            if action == "reject" and (better := side.tokens.reject(side.account(), served)):
                await better


async def test_a_refusal_to_one_process_is_not_retried_by_another(processes):
    async with processes(2) as (one, other):
        await one.log_in()
        token = one.account().held.token.refresh_token.reveal()
        await other.until(lambda: other.account().state() == "valid")
        one.server.revoke_family(token)
        one.clock.advance(HOUR)
        for side in (one, other):
            with pytest.raises(LoginRequired):
                await get(side)
        assert len(one.refreshes) == 1


@pytest.mark.parametrize("grace", [30, 0])
async def test_the_lease_of_a_process_killed_between_response_and_save_is_taken_over_at_once(
    tmp_path, make_side, make_server, open_sqlite, grace
):
    """With grace the server repeats its response; without, the state is login_required, once."""
    async with make_server(grace=grace) as server:
        store = await open_sqlite()
        async with make_side(server=server, store=store) as side:
            await side.log_in()
            old = side.tokens.ready(side.account())
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, str(FLIER), str(tmp_path / "config.toml"), str(tmp_path / "tokens.db")]
        flier = await asyncio.create_subprocess_exec(*command, env=environment, stdout=subprocess.PIPE)
        assert await flier.stdout.readline() == b"answered\n"
        flier.kill()
        await flier.wait()
        assert (await store.get(KEY)).intent is not None
        started = time.monotonic()
        async with make_side(server=server, store=await open_sqlite()) as side, side.kept_fresh():
            account = side.account()
            assert side.tokens.ready(account).fields == old.fields
            await side.until(lambda: account.held.generation == 2)
            assert time.monotonic() - started < lease.LIFETIME / 2
            assert account.state() == ("valid" if grace else "login_required")
            if grace:
                assert side.is_good(side.tokens.ready(account))
        assert len(side.refreshes) == 2
        assert len({request.refresh_token for request in side.refreshes}) == 1
        assert server.families_revoked == (0 if grace else 1)
