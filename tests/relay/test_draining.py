"""The end of a process, for its callers: no request is lost that comes on a connection accepted before."""

import asyncio
import os

import pytest

from proxy.config.model import Limits
from proxy.relay.connection import FIRST_AT_STOP, IDLE_AT_STOP
from proxy.relay.server import SWEEP_EVERY

PATIENCE = 60  # seconds
CLOSES = b"\r\nConnection: close\r\n"


@pytest.fixture
def draining(proxy):
    """Begin to drain; ends with the test."""
    begun = []

    async def begin(seconds=PATIENCE):
        begun.append(asyncio.ensure_future(proxy.relay.drain(seconds)))
        await asyncio.sleep(0)
        return begun[-1]

    return begin


async def rest(reader):
    async with asyncio.timeout(PATIENCE):
        return await reader.read()


async def connected(proxy):
    """A connection that the relay knows."""
    before = len(proxy.relay._connections)
    pair = await proxy.connect()
    while len(proxy.relay._connections) == before:
        await asyncio.sleep(0.01)
    return pair


async def test_a_caller_that_has_just_connected_is_served_once(proxy, kit, draining):
    reader, writer = await connected(proxy)
    done = await draining()
    await asyncio.sleep(0.1)
    writer.write(kit.request(b"GET", b"/up"))
    response = await rest(reader)
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert CLOSES in response
    writer.close()
    await asyncio.wait_for(done, PATIENCE)


async def test_a_request_of_which_a_part_has_come_is_served(proxy, kit, draining):
    reader, writer = await connected(proxy)
    request = kit.request(b"GET", b"/up")
    writer.write(request[:20])
    await asyncio.sleep(0.1)
    done = await draining()
    await asyncio.sleep(0.7)  # a sweep
    writer.write(request[20:])
    assert (await rest(reader)).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    await asyncio.wait_for(done, PATIENCE)


async def test_a_caller_in_a_series_of_requests_is_told_with_its_last_response(proxy, kit, draining):
    reader, writer = await connected(proxy)
    writer.write(kit.request(b"GET", b"/up"))
    await reader.readexactly(len(kit.OK))
    await draining()
    await asyncio.sleep(0.1)
    writer.write(kit.request(b"GET", b"/up"))
    response = await rest(reader)
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert CLOSES in response
    writer.close()


async def test_after_a_response_that_could_not_tell_the_next_one_does(proxy, upstream, kit, draining):
    go_on = asyncio.Event()

    async def in_two_parts(connection):
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        await go_on.wait()
        connection.writer.write(b"lf")

    upstream.script = [in_two_parts]
    reader, writer = await connected(proxy)
    writer.write(kit.request(b"GET", b"/up"))
    await reader.readuntil(b"ha")
    await draining()
    go_on.set()
    await reader.readexactly(2)
    writer.write(kit.request(b"GET", b"/up"))
    response = await rest(reader)
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert CLOSES in response
    writer.close()


async def test_callers_that_send_nothing_hold_up_the_end_for_seconds_only(proxy, kit, draining):
    silent_reader, silent = await connected(proxy)
    idle_reader, idle = await connected(proxy)
    idle.write(kit.request(b"GET", b"/up"))
    await idle_reader.readexactly(len(kit.OK))
    done = await draining(10 * PATIENCE)
    await asyncio.wait_for(done, PATIENCE)
    assert (await rest(silent_reader), await rest(idle_reader)) == (b"", b"")
    silent.close()
    idle.close()


async def test_a_connection_that_has_been_idle_for_long_is_closed_at_once(proxy, kit, draining):
    reader, writer = await connected(proxy)
    writer.write(kit.request(b"GET", b"/up"))
    await reader.readexactly(len(kit.OK))
    await asyncio.sleep(IDLE_AT_STOP + 3 * SWEEP_EVERY)  # a sweep has seen it idle, and longer ago than that
    await draining()
    assert not proxy.relay._connections or all(
        each._transport.is_closing() for each in proxy.relay._connections
    )
    assert await rest(reader) == b""
    writer.close()


async def test_a_request_that_waits_in_the_kernel_is_not_cut_off(proxy, kit):
    """It has come after the event loop has looked for the last time before the drain."""
    reader, writer = await connected(proxy)
    writer.write(kit.request(b"GET", b"/up"))
    await reader.readexactly(len(kit.OK))
    await asyncio.sleep(IDLE_AT_STOP + 3 * SWEEP_EVERY)
    os.write(writer.get_extra_info("socket").fileno(), kit.request(b"GET", b"/up"))
    proxy.relay.context.draining = True
    for each in list(proxy.relay._connections):
        each.drain()  # in this turn of the loop, so that nothing was read in between
    assert (await rest(reader)).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def test_connections_that_are_left_at_the_end_of_the_time_are_closed(proxy, draining):
    reader, writer = await connected(proxy)
    await asyncio.wait_for(await draining(0.1), PATIENCE)
    assert await rest(reader) == b""
    writer.close()


def test_the_waits_end_before_the_time_for_requests_in_flight():
    assert max(FIRST_AT_STOP, IDLE_AT_STOP) < Limits().shutdown
