"""A caller that ends its side: it may be waiting for the response, or be gone."""

import asyncio
import socket
import struct

import pytest

from tests.patience import until

from .test_websocket import SWITCHED, UPGRADE

PATIENCE = 10  # seconds; nothing here should take as long
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


async def silent(connection):
    await connection.reader.read()
    connection.writer.close()


async def silent_stream(connection):
    connection.writer.write(CHUNKED + b"5\r\nhello\r\n")
    await silent(connection)


def cut(writer):
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


LEAVES = {
    "half": lambda writer: writer.write_eof(),
    "whole": lambda writer: writer.close(),
    "by a reset": cut,
}
BUSY = {"before the response": silent, "in a silent event stream": silent_stream}


async def gone(proxy, upstream):
    """The upstream's work is cancelled, and 499 is counted."""
    (connection,) = upstream.connections
    await asyncio.wait_for(connection.ended.wait(), PATIENCE)
    await until(lambda: not proxy.runtime.in_flight)
    assert proxy.runtime.pool(proxy.account).active == 0
    assert proxy.sample("requests_total", route="up", method="GET", code="499") == 1


@pytest.mark.parametrize("leaves", LEAVES)
@pytest.mark.parametrize("busy", BUSY)
async def test_a_caller_that_has_gone_is_noticed(make_proxy, upstream, kit, busy, leaves):
    upstream.script = [BUSY[busy]]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="half_closed = 0.3") as proxy:
        _, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up"))
        await until(lambda: upstream.answered)
        LEAVES[leaves](writer)
        await gone(proxy, upstream)
        writer.close()


@pytest.mark.parametrize("leaves", LEAVES)
async def test_a_gone_caller_is_noticed_behind_pipelined_requests(make_proxy, upstream, kit, leaves):
    """Its end follows unread bytes, so no event reports it."""
    upstream.script = [silent]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="half_closed = 0.3") as proxy:
        _, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up") * 3000)
        await writer.drain()
        (inbound,) = proxy.relay._connections
        await until(lambda: not inbound._reading)
        await asyncio.sleep(0.1)  # until the rest is in the kernel
        LEAVES[leaves](writer)
        await gone(proxy, upstream)
        writer.close()


@pytest.mark.parametrize("leaves", LEAVES)
async def test_a_gone_caller_is_noticed_behind_a_full_buffer(make_proxy, upstream, kit, leaves):
    async def endless(connection):
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            connection.writer.write(bytes(65536))
            await connection.writer.drain()

    upstream.script = [endless]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="half_closed = 0.3") as proxy:
        reader, writer = await proxy.connect()
        reader._transport.pause_reading()
        writer.write(kit.request(b"GET", b"/up"))
        (inbound,) = proxy.relay._connections
        await until(lambda: inbound.is_full)
        LEAVES[leaves](writer)
        await gone(proxy, upstream)
        writer.transport.abort()


async def test_with_half_closed_zero_a_caller_is_gone_at_once(make_proxy, upstream, kit):
    upstream.script = [silent]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="half_closed = 0") as proxy:
        _, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up"))
        await until(lambda: upstream.answered)
        writer.write_eof()
        await gone(proxy, upstream)
        writer.close()


async def test_a_route_may_have_its_own_half_closed_even_for_ever(make_proxy, upstream, kit):
    async def late(connection):
        await asyncio.sleep(1.6)  # three sweeps
        connection.writer.write(kit.OK)

    upstream.script = [late]
    url = f"http://127.0.0.1:{upstream.port}"
    async with make_proxy(url, route="half_closed = inf", limits="half_closed = 0") as proxy:
        assert await proxy.ask(kit.request(b"GET", b"/up"), eof=True) == kit.OK


async def test_for_ever_ends_with_a_reset(make_proxy, upstream, kit):
    upstream.script = [silent]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="half_closed = inf") as proxy:
        _, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up"))
        await until(lambda: upstream.answered)
        writer.write_eof()
        await asyncio.sleep(0.1)
        cut(writer)
        await gone(proxy, upstream)


async def test_a_half_closed_caller_gets_a_long_response_whole(make_proxy, upstream, kit):
    """The half-closed timeout starts again with each byte."""

    async def drips(connection):
        connection.writer.write(LONG)
        for _ in range(20):
            await asyncio.sleep(0.15)
            connection.writer.write(b"x" * 50)

    upstream.script = [drips]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="half_closed = 1.0") as proxy:
        answer = await proxy.ask(kit.request(b"GET", b"/up"), eof=True)
    assert answer == LONG + b"x" * 1000


async def test_a_half_closed_caller_that_reads_slowly_gets_a_long_response_whole(make_proxy, upstream, kit):
    size = 6 * 2**20
    upstream.script = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="half_closed = 1.5") as proxy:
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up"))
        writer.write_eof()
        await reader.readuntil(b"\r\n\r\n")
        received = 0
        while data := await asyncio.wait_for(reader.read(2**19), PATIENCE):
            received += len(data)
            await asyncio.sleep(0.2)
        assert received == size
        writer.close()


async def test_pipelined_requests_of_a_half_closed_caller_are_all_answered(make_proxy, upstream, kit):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="half_closed = 1.0") as proxy:
        answer = await proxy.ask(kit.request(b"GET", b"/up") * 200, eof=True)
    assert answer == kit.OK * 200


async def test_an_end_inside_a_request_is_the_callers(make_proxy, upstream, kit):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="half_closed = inf") as proxy:
        _reader, writer = await proxy.connect()
        writer.write(kit.request(b"POST", b"/up", b"Content-Length: 10", body=b"half"))
        await until(lambda: upstream.connections)
        writer.write_eof()
        (connection,) = upstream.connections
        await asyncio.wait_for(connection.ended.wait(), PATIENCE)
        await until(lambda: not proxy.runtime.in_flight)
        assert proxy.sample("requests_total", route="up", method="POST", code="499") == 1
        writer.close()


# -- tunnels


async def test_in_a_tunnel_a_callers_end_is_passed_on_and_the_other_way_goes_on(make_proxy, upstream, kit):
    async def switch(connection):
        connection.writer.write(SWITCHED)
        assert await connection.reader.read() == b"mine"
        connection.writer.write(b"and yours")
        await connection.writer.drain()
        connection.writer.close()

    upstream.script = [switch]
    url = f"http://127.0.0.1:{upstream.port}"
    async with make_proxy(url, route="websocket = true\nhalf_closed = 0") as proxy:
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up", *UPGRADE))
        assert await reader.readexactly(len(SWITCHED)) == SWITCHED
        writer.write(b"mine")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"and yours"
        await until(lambda: not proxy.runtime.in_flight)
        assert proxy.sample("requests_total", route="up", method="GET", code="101") == 1
        writer.close()


async def test_in_a_tunnel_an_upstreams_end_is_passed_on_too(make_proxy, upstream, kit):
    heard = asyncio.Queue()

    async def switch(connection):
        connection.writer.write(SWITCHED + b"yours")
        connection.writer.write_eof()
        heard.put_nowait(await connection.reader.read())
        connection.writer.close()

    upstream.script = [switch]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up", *UPGRADE))
        assert await asyncio.wait_for(reader.read(), PATIENCE) == SWITCHED + b"yours"
        writer.write(b"mine " + bytes(1_000_000))
        writer.write_eof()
        assert len(await asyncio.wait_for(heard.get(), PATIENCE)) == 1_000_005
        await until(lambda: not proxy.runtime.in_flight)
        writer.close()
