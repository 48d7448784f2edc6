"""Callers that vanish at any moment leave nothing behind: no connection, no task, nobody's answer."""

import asyncio
import random

import pytest

from proxy import tasks

CALLERS = 1500
AT_ONCE = 50


async def echo_path(connection):
    """Answer with the last request's path, in pieces, after a moment."""
    path = connection.received.rpartition(b"GET ")[2].partition(b" ")[0]
    await asyncio.sleep(random.random() * 0.004)
    connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(path) * 3000))
    for _ in range(3):
        connection.writer.write(path * 1000)
        await connection.writer.drain()


class Endless(list):
    def pop(self, _index):
        return echo_path

    def __bool__(self):
        return True


async def ask(proxy, kit, number):
    path = b"/up/%06d" % number
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", path, b"Connection: close"))
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert kit.split(answer)[2] == (b"/base/%06d" % number) * 3000
    return answer


async def vanish(proxy, kit, number, chance):
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up/%06d" % number))
    await asyncio.sleep(chance.random() * 0.008)
    if chance.random() < 0.5:
        await reader.read(chance.randint(1, 60_000))
    writer.transport.abort() if chance.random() < 0.7 else writer.close()


async def in_waves(jobs):
    for at in range(0, len(jobs), AT_ONCE):
        await asyncio.gather(*jobs[at : at + AT_ONCE])


@pytest.mark.parametrize("seed", [1])
async def test_callers_that_vanish_leave_nothing_behind(proxy, upstream, kit, seed):
    upstream.script = Endless()
    chance = random.Random(seed)
    await in_waves([vanish(proxy, kit, number, chance) for number in range(CALLERS)])
    await in_waves([ask(proxy, kit, number) for number in range(300)])
    pool = proxy.lane.pool(proxy.account)
    for _ in range(200):
        if not proxy.relay._connections and pool.active == 0:
            break
        await asyncio.sleep(0.05)
    assert not proxy.relay._connections
    assert pool.active == 0
    assert proxy.lane.in_flight == 0
    assert not [task for task in tasks._running if "request" in task.get_name()]
