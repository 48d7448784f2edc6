"""Timeouts blame the side that stalls: a caller's fault must not page the upstream's operator."""

import asyncio
import json
import socket

import pytest

from tests.patience import until


@pytest.fixture
async def impatient(make_proxy, upstream):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits="body_stall = 0.2") as proxy:
        yield proxy


def blamed(proxy):
    return sum(
        sample.value
        for metric in proxy.state.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "token_proxy_upstream_errors_total"
    )


async def test_a_caller_that_stops_its_body_gets_a_408(impatient, upstream, kit):
    answer = await impatient.ask(kit.request(b"POST", b"/up", b"Content-Length: 10", body=b"half"))
    status, fields, body = kit.split(answer)
    assert (status, json.loads(body)["type"]) == (408, "urn:token-proxy:problem:caller-timeout")
    assert b"Connection: close" in fields
    assert impatient.refused("caller-timeout") == 1
    assert blamed(impatient) == 0


async def test_a_slow_body_does_not_time_out(impatient, upstream, kit):
    reader, writer = await impatient.connect()
    writer.write(kit.request(b"POST", b"/up", b"Content-Length: 20", b"Connection: close"))
    for _ in range(20):
        await asyncio.sleep(0.08)
        writer.write(b"x")
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def endless(connection):
    connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        connection.writer.write(b"x" * 65536)
        await connection.writer.drain()


async def test_a_caller_that_does_not_read_is_cut_and_the_upstream_not_blamed(impatient, upstream, kit):
    upstream.script = [endless]
    _, writer = await impatient.connect()
    writer.transport.pause_reading()
    writer.write(kit.request(b"GET", b"/up"))
    (connection,) = await until(lambda: upstream.connections)
    await asyncio.wait_for(connection.ended.wait(), 10)
    assert blamed(impatient) == 0
    assert impatient.sample("requests_in_flight", route="up") == 0
    writer.transport.abort()


async def test_an_upstream_that_does_not_take_a_body_is_blamed(make_proxy, kit):
    leave = asyncio.Event()

    async def deaf(_reader, writer):
        await leave.wait()
        writer.close()

    async with await asyncio.start_server(deaf, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with make_proxy(url, limits="body_stall = 0.2") as proxy:
            reader, writer = await proxy.connect()
            writer.write(kit.request(b"POST", b"/up", b"Content-Length: 30000000", body=bytes(30_000_000)))
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 504 ")
            assert blamed(proxy) == 1
            writer.transport.abort()
            leave.set()


async def test_a_silent_upstream_is_blamed_while_the_caller_waits_for_a_100(make_proxy, upstream, kit):
    """The caller rightly sends no body before the 100 (RFC 9110 section 10.1.1)."""

    async def silent(connection):
        await connection.reader.read()

    class Silent(kit.Upstream):
        async def _converse(self, connection):
            await silent(connection)

    limits = "first_byte = 0.5\nbody_stall = 30.0"
    async with (
        kit.serving(Silent()) as deaf,
        make_proxy(f"http://127.0.0.1:{deaf.port}", limits=limits) as proxy,
    ):
        lines = [b"Expect: 100-continue", b"Content-Length: 5"]
        answer = await proxy.ask(kit.request(b"POST", b"/up", *lines))
        status, _, body = kit.split(answer)
        assert (status, json.loads(body)["type"]) == (504, "urn:token-proxy:problem:upstream-timeout")
        assert blamed(proxy) == 1


async def test_first_byte_does_not_apply_once_the_caller_has_its_100(make_proxy, kit):
    class Willing(kit.Upstream):
        async def _converse(self, connection):
            await connection.reader.readuntil(b"\r\n\r\n")
            connection.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await connection.reader.readexactly(5)
            connection.writer.write(kit.OK)
            await connection.reader.read()

    limits = "first_byte = 0.5\nbody_stall = 30.0"
    async with (
        kit.serving(Willing()) as willing,
        make_proxy(f"http://127.0.0.1:{willing.port}", limits=limits) as proxy,
    ):
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"POST", b"/up", b"Expect: 100-continue", b"Content-Length: 5"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await asyncio.sleep(1.6)  # three sweeps
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(len(kit.OK)), 10) == kit.OK
        writer.close()


async def test_an_unread_end_of_a_response_does_not_keep_the_connection(impatient, upstream, kit):
    """The exchange is over when the proxy has the whole response; its unread rest has a limit too."""
    size = 4_000_000
    upstream.script = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)]
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", impatient.port))
    sock.sendall(kit.request(b"GET", b"/up", b"Connection: close"))
    await until(lambda: upstream.answered)
    await until(lambda: not impatient.relay._connections)
    assert impatient.runtime.in_flight == 0
    sock.close()
