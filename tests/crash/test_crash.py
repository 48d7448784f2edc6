"""kill -9 at every call of a refresh: the store opens, and the next process recovers.

First one refresh is traced. Then, for each call that reaches the store or the authorization server, a process
refreshes and is killed there, and `token-proxy run` is started over what it left, and asked.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.crash.fate import Fate, calls_of_a_refresh, killed_at
from tests.crash.place import a_place
from tests.crash.tracing import Call

pytestmark = [pytest.mark.e2e, pytest.mark.privileged]

# The server's grace in seconds, and whether the access token has expired: if so, a request brings the next
# refresh; else nobody asks, and the open intent does.
SERVERS = [(0, True), (5, False), (30, True), (600, False)]
FEWEST = 15  # calls at which a process was really killed
ABREAST = 3  # at once: each is mostly one process, and waits now and then


@pytest.mark.parametrize(("grace", "expired"), SERVERS)
async def test_whatever_call_of_a_refresh_is_the_last_the_next_process_recovers(
    tmp_path, store_url, grace, expired
):
    turns = asyncio.Semaphore(ABREAST)

    async def fate(number: int, call: Call) -> Fate:
        name = f"grace-{grace}-call-{number}"
        async with turns, a_place(tmp_path / name, store_url, grace=grace) as place:
            return await killed_at(call, place, name, expired=expired)

    async with a_place(tmp_path / "traced", store_url, grace=grace) as place:
        calls = [one.call for one in await calls_of_a_refresh(place, expired=expired)]
    fates = await asyncio.gather(*(fate(*numbered) for numbered in enumerate(calls)))
    table = "\n" + "\n".join(map(str, fates))
    assert not any(list(one.faults()) for one in fates), table
    hit = [one for one in fates if one.where]
    assert len(hit) >= FEWEST, table
    # before the server had it, when only the server had it, and when the store had it, too
    assert {(one.exchanged, one.saved) for one in hit} == {(False, False), (True, False), (True, True)}, table
