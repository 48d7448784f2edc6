"""Listeners: one for all routes, one of a route's own; and upstreams on a unix socket."""

import asyncio
import contextlib
import resource
import socket
import ssl
import sys

import pytest
from aiohttp import web

from proxy.fd_limits import FOR_UPSTREAMS, RESERVE, RESERVE_SHARE, Descriptors
from proxy.relay.connection import HIGH_WATER
from proxy.relay.server import Listener


async def listening(relay, runtime):
    relay.context.own[7] = runtime
    runner = web.ServerRunner(Listener(relay, 7))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, site.port


async def asked(port, raw):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    answer = await reader.read()
    writer.close()
    return answer


async def test_everything_on_a_listener_of_its_own_belongs_to_the_route(proxy, upstream, kit):
    proxy.runtime.prefix = b""  # as a route with `listen` has it
    runner, port = await listening(proxy.relay, proxy.runtime)
    await asked(port, kit.request(b"GET", b"/any/path?q", b"Connection: close"))
    assert upstream.received[0].startswith(b"GET /base/any/path?q HTTP/1.1\r\n")
    await runner.cleanup()


async def test_the_rules_hold_on_a_listener_of_its_own_too(proxy, upstream, kit):
    runner, port = await listening(proxy.relay, proxy.runtime)
    answer = await asked(port, b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert upstream.requests == 0
    await runner.cleanup()


async def test_an_upstream_may_be_a_unix_socket(make_proxy, kit, tmp_path):
    served = kit.Upstream()
    server = await asyncio.start_unix_server(served.serve, tmp_path / "up.sock")
    async with make_proxy(f"unix:{tmp_path}/up.sock:/base") as proxy:
        assert (await proxy.get()).endswith(b"\r\n\r\nok")
    assert served.received[0].startswith(b"GET /base/x HTTP/1.1\r\nHost: localhost\r\n")
    server.close()


async def test_the_prefix_stays_if_strip_path_is_false(make_proxy, upstream):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}/base", route="strip_path = false") as proxy:
        await proxy.get(b"/up/x")
    assert upstream.received[0].startswith(b"GET /base/up/x HTTP/1.1\r\n")


async def test_connections_are_seen_by_prometheus(proxy, upstream, kit):
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    await reader.readexactly(len(kit.OK))
    assert proxy.sample("upstream_connections", route="up", state="idle") == 1
    assert proxy.sample("upstream_connections", route="up", state="active") == 0
    assert proxy.sample("requests_total", route="up", method="GET", code="200") == 1
    assert proxy.sample("requests_in_flight", route="up") == 0
    writer.close()


async def test_exchanges_that_outlast_the_drain_are_cut(proxy, upstream, kit):
    async def never(connection):
        await connection.reader.read()

    upstream.script = [never]
    asking = asyncio.ensure_future(proxy.ask(kit.request(b"GET", b"/up")))
    while not upstream.answered:
        await asyncio.sleep(0.01)
    await proxy.relay.drain(0.1)
    with pytest.raises(ConnectionResetError):
        await asking


async def test_a_connection_whose_response_had_begun_ends_with_it_when_the_proxy_stops(proxy, upstream, kit):
    go_on = asyncio.Event()

    async def in_two_parts(connection):
        connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        await go_on.wait()
        connection.writer.write(b"lf")

    upstream.script = [in_two_parts]
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    assert (await reader.readuntil(b"ha")).startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    draining = asyncio.ensure_future(proxy.relay.drain(60))
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.wait_for(reader.read(), 5) == b"lf"
    await asyncio.wait_for(draining, 5)
    writer.close()


async def test_closing_leaves_no_connection_behind(proxy, upstream, kit):
    upstream.script = [lambda connection: connection.reader.read()]
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    idle_reader, idle_writer = await proxy.connect()
    while not upstream.answered:
        await asyncio.sleep(0.01)
    await proxy.relay.close()
    for each in (reader, idle_reader):
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(each.read(), 5)
    await asyncio.wait_for(upstream.connections[0].ended.wait(), 5)
    writer.close()
    idle_writer.close()


@pytest.mark.parametrize("is_tls", [False, True])
async def test_the_write_buffer_of_a_caller_has_one_limit(proxy, tls_authority, is_tls):
    """What is above it pauses the upstream; the event loops' own limits differ."""
    context, ca = tls_authority
    runner = web.ServerRunner(Listener(proxy.relay))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context if is_tls else None)
    await site.start()
    trusting = ssl.create_default_context(cafile=ca) if is_tls else None
    name = "localhost" if is_tls else None
    _, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=trusting, server_hostname=name)
    async with asyncio.timeout(60):
        while not proxy.relay._connections:
            await asyncio.sleep(0.01)
    (connection,) = proxy.relay._connections
    assert connection.is_tls is is_tls
    assert connection.local_address == "127.0.0.1"
    assert connection._transport.get_write_buffer_limits()[1] == HIGH_WATER
    writer.close()
    await runner.cleanup()


# -- open files

MANY = 40  # callers that connect before the first of them is accepted


@contextlib.contextmanager
def connected(port):
    """Callers in the kernel's queue, each with a request that is refused by its Host."""
    with contextlib.ExitStack() as opened:
        callers = []
        for _ in range(MANY):
            caller = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            caller.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            caller.setblocking(False)
            callers.append(caller)
        yield callers


async def statuses(callers):
    """The status of each response; empty where the connection was reset."""
    found = []
    for caller in callers:
        with contextlib.suppress(ConnectionResetError):
            found.append((await asyncio.get_running_loop().sock_recv(caller, 65536))[9:12])
            continue
        found.append(b"")
    return found


async def test_of_a_burst_as_many_callers_are_served_as_may_be_open(proxy):
    """Each by the number of its own file: that the others' files are open too by then says nothing of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connected(proxy.port) as callers:
        with socket.socket() as lowest:
            number = lowest.fileno()
        usable = (number + MANY // 2) / (1 - FOR_UPSTREAMS)  # so that callers may take half of them
        limit = int(min(usable / (1 - RESERVE_SHARE), usable + RESERVE)) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            proxy.relay.context.lasting.descriptors = Descriptors()
            found = await statuses(callers)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    served = found.count(b"421")
    assert MANY / 4 < served < MANY
    assert found[:served] == [b"421"] * served
    assert b"503" in found[served:]
    assert set(found[served:]) <= {b"503", b""}


_sockets = []  # made by this process while there is a list in it
sys.addaudithook(lambda event, _: event == "socket.__new__" and [each.append(event) for each in _sockets])


async def test_an_accepted_connection_opens_no_other_file(proxy):
    with connected(proxy.port) as callers:
        made = []
        _sockets.append(made)
        try:
            assert await statuses(callers) == [b"421"] * MANY
        finally:
            _sockets.clear()
    assert len(made) < 1.5 * MANY, "asyncio makes one for each, the proxy's sweep another now and then"
