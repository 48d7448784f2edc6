"""How many requests are handled in a second: turns, first come, first served."""

import asyncio
import time

import pytest

from proxy.admin.pace import Pace


def here():
    return True


async def test_a_few_requests_at_once_do_not_wait():
    pace = Pace(rate=0.001, burst=3)
    assert [pace.take() for _ in range(5)] == [True, True, True, False, False]


async def test_turns_come_back_with_time():
    pace = Pace(rate=100, burst=1)
    assert pace.take()
    assert not pace.take()
    await asyncio.sleep(0.05)
    assert pace.take()


async def test_no_more_turns_are_saved_than_for_a_burst():
    pace = Pace(rate=1000, burst=2)
    await asyncio.sleep(0.05)
    assert [pace.take() for _ in range(3)] == [True, True, False]


async def test_whoever_waits_is_served_in_order_and_at_the_rate():
    pace, served = Pace(rate=100, burst=1), []
    assert pace.take()

    async def ask(number):
        assert await pace.wait(here)
        served.append(number)

    began = time.monotonic()
    async with asyncio.timeout(60), asyncio.TaskGroup() as asking:
        for number in range(20):
            asking.create_task(ask(number))
    assert served == list(range(20))
    assert time.monotonic() - began > 0.15


async def test_nobody_overtakes():
    pace = Pace(rate=100, burst=1)
    assert pace.take()
    waiting = asyncio.create_task(pace.wait(here))
    await asyncio.sleep(0)
    time.sleep(0.05)  # noqa: ASYNC251 (a turn is free now, but it is not given yet)
    assert not pace.take()
    assert await waiting


async def test_who_has_gone_takes_no_turn():
    pace = Pace(rate=20, burst=1)
    assert pace.take()
    gone = [asyncio.create_task(pace.wait(lambda: False)) for _ in range(1000)]
    last = asyncio.create_task(pace.wait(here))
    async with asyncio.timeout(30):  # 1000 turns would take 50 s
        assert await last
        assert not any(await asyncio.gather(*gone))


@pytest.mark.parametrize("leaves", ["first", "last"])
async def test_who_is_cancelled_takes_no_turn_and_stops_nobody(leaves):
    pace = Pace(rate=100, burst=1)
    assert pace.take()
    first, last = (asyncio.create_task(pace.wait(here)) for _ in range(2))
    await asyncio.sleep(0)
    leaving, staying = (first, last) if leaves == "first" else (last, first)
    leaving.cancel()
    async with asyncio.timeout(60):
        assert await staying
    await asyncio.sleep(0.05)
    assert pace.take(), "it goes on"
