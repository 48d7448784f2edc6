"""kill -9 at every call of a refresh: the store opens, and the next process recovers.

First one refresh is traced. Then, for the calls that reach the store or the authorization server, a process
refreshes and is killed at the call, and `token-proxy run` is started on the same store and gets a request.
`make torture` takes each of these calls; `make test` one of each kind, another one with each server.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.crash.crash_case import CrashCase, calls_of_a_refresh, killed_at
from tests.crash.sample import sample
from tests.crash.setup import set_up
from tests.crash.tracing import Call

pytestmark = [pytest.mark.e2e, pytest.mark.privileged]

# The server's grace in seconds, and whether the access token has expired: if so, a request causes the next
# refresh, else the open intent does.
SERVERS = [(0, True), (5, False), (30, True), (600, False)]
FEWEST = 15  # calls at which a process was really killed
EVERY_CALL = "TIMES" in os.environ
ABREAST = 3  # at once: each is mostly one process, and sometimes waits


@pytest.mark.parametrize(("grace", "expired"), SERVERS)
async def test_after_a_kill_at_any_call_of_a_refresh_the_next_process_recovers(
    tmp_path, store_url, grace, expired
):
    turns = asyncio.Semaphore(ABREAST)

    async def case(number: int, call: Call) -> CrashCase:
        name = f"grace-{grace}-call-{number}"
        async with turns, set_up(tmp_path / name, store_url, grace=grace) as setup:
            return await killed_at(call, setup, name, expired=expired)

    async with set_up(tmp_path / "traced", store_url, grace=grace) as setup:
        traced = await calls_of_a_refresh(setup, expired=expired)
    if not EVERY_CALL:
        traced = sample(traced, SERVERS.index((grace, expired)), len(SERVERS))
    calls = [one.call for one in traced]
    cases = await asyncio.gather(*(case(*numbered) for numbered in enumerate(calls)))
    table = "\n" + "\n".join(map(str, cases))
    assert not any(list(one.faults()) for one in cases), table
    hit = [one for one in cases if one.where]
    assert len(hit) >= (FEWEST if EVERY_CALL else len(calls) // 2), table
    # killed before the server acted, after it, and after the new token was saved
    assert {(one.exchanged, one.saved) for one in hit} == {(False, False), (True, False), (True, True)}, table
