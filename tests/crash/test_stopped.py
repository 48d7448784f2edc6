"""A process is stopped in the middle of a refresh, for longer than its lease; another takes over.

Nothing is lost unless no client can prevent it: the first process had sent the refresh token, and the server
has no grace.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from proxy.demo.faults import Fault
from tests.crash import forkserver, tracing
from tests.crash.crash_case import calls_of_a_refresh, named
from tests.crash.herd import herd
from tests.crash.setup import UNHURRIED, Setup, set_up, stored
from tests.crash.tracing import Call

pytestmark = [pytest.mark.e2e, pytest.mark.privileged]

SEEN = 1.0  # seconds until a process sees what another has saved


class Row(NamedTuple):
    stopped: str  # "connecting", before the check of the lease; "waiting" for the response
    grace: float
    # what is expected:
    requests: int  # to the token endpoint, by both
    taken_over: str  # response of the other process, while the first is stopped
    says: str  # the first process, after it was resumed
    in_the_end: str  # response of the other process
    state: str = "valid"  # in the store
    revoked: int = 0  # families


ROWS = [
    Row("connecting", 0, 1, "recovered", "done", "recovered"),
    Row("waiting", 600, 2, "recovered", "done", "recovered"),
    # No client could save the family: the token was sent, its successor not yet saved, and there is no grace.
    # The response that the first has then is valid at a server that revokes no family: it is saved and tried.
    # The upstream refuses it, and so does the server the refresh after that: a login is required.
    Row("waiting", 0, 3, "login_required", "done", "login_required", "login_required", revoked=1),
]


async def connecting(setup: Setup) -> Call:
    """The call by which a refresh connects to the authorization server."""
    calls = await calls_of_a_refresh(setup, expired=True)
    to_server = f"sin_port=htons({urlsplit(setup.issuer).port})"
    return next(one.call for one in calls if one.call.name == "connect" and to_server in one.text)


@asynccontextmanager
async def stopped_connecting(process: forkserver.Child, setup: Setup, connect: Call) -> AsyncIterator[None]:
    """Tell the process to go; it is stopped when the block begins, and must end within it."""
    trace = setup.folder / "trace"
    async with tracing.signalling(process.pid, connect, "STOP", trace):
        process.tell("go")
        async with asyncio.timeout(forkserver.PATIENCE):
            while tracing.STOPPED not in trace.read_text():  # its state is "t" at each call that is traced
                await asyncio.sleep(0.01)
        yield


@asynccontextmanager
async def stopped_waiting(process: forkserver.Child, setup: Setup, refresh_token: str) -> AsyncIterator[None]:
    """Tell the process to go, and stop it when the server has acted but not responded."""
    gate = asyncio.Event()
    setup.server.script(Fault(wait_after=gate.wait))
    process.tell("go")
    async with asyncio.timeout(forkserver.PATIENCE):
        while setup.is_current(refresh_token):
            await asyncio.sleep(0.01)
    process.signal(signal.SIGSTOP)
    await stands_still(process)
    gate.set()
    yield


async def stands_still(process: forkserver.Child) -> None:
    async with asyncio.timeout(forkserver.PATIENCE):
        while tracing.state(process.pid) != "T":
            await asyncio.sleep(0.01)


async def came_of(row: Row, connect: Call, setup: Setup, account: str) -> Row:
    config = setup.configure(more=UNHURRIED)
    (token,) = (await setup.plant(config, [account], expired=True)).values()
    async with forkserver.refresher(config, account) as first:
        stopped = (
            stopped_connecting(first, setup, connect)
            if row.stopped == "connecting"
            else stopped_waiting(first, setup, token)
        )
        async with (
            stopped,
            forkserver.serving(config, setup.folder / "log"),
            herd([config.server.listen[0].port], 1) as (caller,),
        ):
            taken_over = named(await caller.ask(account))
            first.signal(signal.SIGCONT)
            says = str(await first.hears())
            await first.end()
            await asyncio.sleep(SEEN)
            for _ in range(2):  # the first may find that the token is dead
                in_the_end = named(await caller.ask(account))
    state, held = await stored(config, account)
    assert setup.is_current(held)
    requests, revoked = len(setup.server.token_requests), setup.server.families_revoked
    return Row(row.stopped, row.grace, requests, taken_over, says, in_the_end, state, revoked)


async def test_a_process_stopped_for_longer_than_its_lease_does_no_harm(tmp_path, store_url):
    async with set_up(tmp_path / "traced", store_url, grace=0) as setup:
        connect = await connecting(setup)

    async def tried(row: Row) -> Row:
        name = f"stopped-{row.stopped}-{row.grace}"
        async with set_up(tmp_path / name, store_url, grace=row.grace) as setup:
            return await came_of(row, connect, setup, name)

    assert await asyncio.gather(*map(tried, ROWS)) == ROWS
