"""WebSocket is forwarded as bytes, if the route permits it."""

import asyncio
import contextlib
import os
import socket
import struct

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

PATIENCE = 10  # seconds; nothing here should take as long
CLOSE_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
UPGRADE = [b"Connection: Upgrade", b"Upgrade: websocket"]


@contextlib.asynccontextmanager
async def echoing(make_proxy):
    """A proxy in front of a WebSocket echo server; `heads` are the fields of the requests it got."""
    heads = []

    async def echo(connection):
        heads.append(connection.request.headers)
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in connection:
                if message == "close":
                    await connection.close(4001, "as asked")
                elif message == "abort":
                    connection.transport.abort()
                else:
                    await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with make_proxy(f"http://127.0.0.1:{port}", route="websocket = true") as proxy:
            proxy.heads = heads
            yield proxy


def dial(proxy, **options):
    return connect(f"ws://127.0.0.1:{proxy.port}/up/chat", proxy=None, max_size=None, **options)


EARLY = b"\x00GET / HTTP/1.1\r\n\r\n"
MESSAGES = {
    "text": "hällo",
    "binary": bytes(range(256)),
    "empty": "",
    "sixteen megabytes": os.urandom(16 * 2**20),
}


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("name", MESSAGES)
async def test_messages_come_back_whole(make_proxy, name, compression):
    async with echoing(make_proxy) as proxy, dial(proxy, compression=compression) as caller:
        await caller.send(MESSAGES[name])
        assert await caller.recv() == MESSAGES[name]


async def test_the_token_is_attached_and_nothing_of_the_callers_own(make_proxy):
    fields = {"Authorization": "Basic theirs", "X-Forwarded-For": "1"}
    async with echoing(make_proxy) as proxy, dial(proxy, additional_headers=fields):
        (head,) = proxy.heads
        assert head.get_all("Authorization")[0].startswith("Bearer ")
        assert len(head.get_all("Authorization")) == 1
        assert "X-Forwarded-For" not in head


async def test_fragments_pings_and_close_codes_pass(make_proxy):
    async with echoing(make_proxy) as proxy, dial(proxy) as caller:
        await caller.send(["in ", "three ", "pieces"])
        assert await caller.recv() == "in three pieces"
        await (await caller.ping())
        await caller.send("close")
        with pytest.raises(websockets.ConnectionClosedError):
            await caller.recv()
        assert (caller.close_code, caller.close_reason) == (4001, "as asked")


async def test_an_abrupt_end_on_either_side_ends_the_other(make_proxy):
    async with echoing(make_proxy) as proxy:
        async with dial(proxy) as caller:
            await caller.send("abort")
            with pytest.raises(websockets.ConnectionClosedError):
                await caller.recv()
        async with dial(proxy) as caller:
            await caller.send("x")
            await caller.recv()
            caller.transport.abort()
        while proxy.runtime.in_flight:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(make_proxy, handler, **options):
    """A proxy in front of a WebSocket server that runs `handler`."""
    async with serve(handler, "127.0.0.1", 0, max_size=None, **options) as server:
        port = server.sockets[0].getsockname()[1]
        async with make_proxy(f"http://127.0.0.1:{port}", route="websocket = true") as proxy:
            yield proxy


async def nothing_is_left(proxy):
    while proxy.runtime.in_flight or proxy.runtime.pool(proxy.account)._open:
        await asyncio.sleep(0.01)


async def closed_by_both(make_proxy, by_caller):
    """Close with each code, from one side; returns the codes and reasons that the other side got."""
    seen = asyncio.Queue()

    async def handler(connection):
        if by_caller:
            await connection.wait_closed()
            seen.put_nowait((connection.close_code, connection.close_reason))
        else:
            code = int(await connection.recv())
            await connection.close(code, f"because {code}")

    async with serving(make_proxy, handler) as proxy:
        for code in CLOSE_CODES:
            async with dial(proxy) as caller:
                if by_caller:
                    await caller.close(code, f"because {code}")
                else:
                    await caller.send(str(code))
                    await asyncio.wait_for(caller.wait_closed(), PATIENCE)
                    seen.put_nowait((caller.close_code, caller.close_reason))
        await nothing_is_left(proxy)
        return [await asyncio.wait_for(seen.get(), PATIENCE) for _ in CLOSE_CODES]


@pytest.mark.parametrize("by_caller", [True, False], ids=["by the caller", "by the server"])
async def test_every_close_code_and_its_reason_reach_the_other_side(make_proxy, by_caller):
    assert await closed_by_both(make_proxy, by_caller) == [(code, f"because {code}") for code in CLOSE_CODES]


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_a_message_in_many_fragments_comes_back_whole(make_proxy, compression):
    fragments = [os.urandom(1000) + b"\0" * size for size in (0, 1, 125, 126, 65_535, 65_536, 200_000)]
    async with echoing(make_proxy) as proxy, dial(proxy, compression=compression) as caller:
        assert bool(caller.protocol.extensions) == (compression is not None)
        await caller.send(fragments)
        assert await caller.recv() == b"".join(fragments)


async def test_a_servers_fragments_arrive_one_by_one(make_proxy):
    heard = asyncio.Event()

    async def handler(connection):
        async def fragments():
            yield "first, "
            await asyncio.wait_for(heard.wait(), PATIENCE)
            yield "then"

        await connection.send(fragments())

    async with serving(make_proxy, handler) as proxy, dial(proxy) as caller:
        received = []
        async for fragment in caller.recv_streaming():
            received.append(fragment)
            heard.set()
        assert "".join(received) == "first, then"
        assert received[0] == "first, "


async def test_a_server_may_ping_too(make_proxy):
    async def handler(connection):
        for _ in range(3):
            await asyncio.wait_for(await connection.ping(b"are you there"), PATIENCE)
        await connection.send("you are")

    async with serving(make_proxy, handler) as proxy, dial(proxy) as caller:
        assert await caller.recv() == "you are"


async def test_a_hundred_sockets_at_once_get_their_own_messages(make_proxy):
    async def talk(proxy, number):
        async with dial(proxy) as caller:
            for turn in range(10):
                await caller.send(f"{number}-{turn}")
                assert await caller.recv() == f"{number}-{turn}"

    async with echoing(make_proxy) as proxy:
        await asyncio.gather(*(talk(proxy, number) for number in range(100)))
        await nothing_is_left(proxy)


async def test_websocket_passes_over_tls_to_the_upstream(make_proxy, tls_upstream, kit):
    """The server's handshake is written by hand: the test is about the bytes after it."""
    size = 20 * 2**20
    sent = os.urandom(65536)

    async def echo(connection):
        connection.writer.write(SWITCHED + connection.behind)
        left = size - len(connection.behind)
        while left:
            data = await connection.reader.read(65536)
            left -= len(data)
            connection.writer.write(data)
            await connection.writer.drain()
        connection.writer.close()

    tls_upstream.script = [echo]
    route = f'websocket = true\ntls = {{ ca = "{tls_upstream.ca}" }}'
    async with make_proxy(f"https://localhost:{tls_upstream.port}", route=route) as proxy:
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up", *UPGRADE))
        assert await reader.readexactly(len(SWITCHED)) == SWITCHED

        async def send():
            for _ in range(size // len(sent)):
                writer.write(sent)
                await writer.drain()

        sending = asyncio.ensure_future(send())
        for _ in range(size // len(sent)):
            assert await asyncio.wait_for(reader.readexactly(len(sent)), PATIENCE) == sent
        await sending
        assert await reader.read() == b""
        writer.close()
        await nothing_is_left(proxy)


# -- a side that doesn't read


async def until_it_stands_still(amount):
    before = -1
    while before != amount():
        before = amount()
        await asyncio.sleep(0.2)


def flood(writer):
    """Write for ever; `flood.sent` is the number of bytes taken so far."""

    async def go_on():
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            running.sent += 65536

    running = asyncio.ensure_future(go_on())
    running.sent = 0
    return running


MOST_IN_FLIGHT = 24 * 2**20  # bytes: the most that the kernel's buffers of four sockets, and ours, may hold


@pytest.mark.parametrize("who", ["the caller", "the server"])
async def test_a_side_that_does_not_read_pauses_the_other(make_proxy, upstream, kit, who):
    switched, leave = asyncio.Event(), asyncio.Event()

    async def switch(connection):
        connection.writer.write(SWITCHED)
        connection.writer.transport.set_write_buffer_limits(0)
        connection.reader._transport.pause_reading()
        switched.set()
        await leave.wait()
        connection.writer.transport.abort()

    upstream.script = [switch]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up", *UPGRADE))
        assert await reader.readexactly(len(SWITCHED)) == SWITCHED
        await switched.wait()
        writer.transport.set_write_buffer_limits(0)
        reader._transport.pause_reading()
        flooding = flood(writer if who == "the server" else upstream.connections[0].writer)
        await until_it_stands_still(lambda: flooding.sent)
        assert 0 < flooding.sent < MOST_IN_FLIGHT
        (inbound,) = proxy.relay._connections
        (outbound,) = proxy.runtime.pool(proxy.account)._open
        assert outbound._queued < 2**19  # one read beyond HIGH_WATER, which uvloop makes of up to 256 KiB
        assert inbound._transport.get_write_buffer_size() < 2**19
        flooding.cancel()
        leave.set()
        writer.transport.abort()
        await nothing_is_left(proxy)


# -- abrupt ends


def end(writer, how):
    if how == "reset":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("who", ["the caller", "the server"])
async def test_an_end_without_a_close_frame_is_passed_on(make_proxy, upstream, kit, who, how):
    async def switch(connection):
        connection.writer.write(SWITCHED + b"the last words")
        await connection.writer.drain()
        if who == "the server":
            end(connection.writer, how)
        else:
            assert await asyncio.wait_for(connection.reader.read(), PATIENCE) == b"mine"

    upstream.script = [switch]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up", *UPGRADE))
        assert await reader.readexactly(len(SWITCHED)) == SWITCHED
        if who == "the caller":
            writer.write(b"mine")
            await reader.readexactly(len(b"the last words"))
            end(writer, "close")
        else:
            with contextlib.suppress(ConnectionResetError):  # a reset may destroy unread data
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b"the last words"
            writer.close()
        await asyncio.wait_for(upstream.connections[0].ended.wait(), PATIENCE)
        await nothing_is_left(proxy)
        assert proxy.sample("requests_total", route="up", method="GET", code="101") == 1


async def test_frames_sent_before_the_response_are_not_read_as_a_request(make_proxy, upstream, kit):
    async def switch(connection):
        connection.writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        missing = len(EARLY) - len(connection.behind)
        assert connection.behind + await connection.reader.readexactly(missing) == EARLY
        connection.writer.write(b"bytes")
        await connection.writer.drain()
        connection.writer.close()

    upstream.script = [switch]
    lines = [b"Connection: Upgrade", b"Upgrade: WebSocket"]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        answer = await proxy.ask(kit.request(b"GET", b"/up", *lines) + EARLY)
    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbytes"
    )


async def test_a_declined_upgrade_is_a_response_like_any_other(make_proxy, upstream, kit):
    lines = [b"Connection: Upgrade, close", b"Upgrade: websocket"]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        assert (await proxy.ask(kit.request(b"GET", b"/up", *lines))).endswith(b"\r\n\r\nok")


async def test_a_servers_refusal_passes_and_the_caller_may_try_again(make_proxy):
    def refuse(connection, _request):
        return connection.respond(403, "not on a Tuesday\n")

    async with serving(make_proxy, None, process_request=refuse) as proxy:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await dial(proxy)
        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b"not on a Tuesday\n"
        assert proxy.sample("requests_total", route="up", method="GET", code="403") == 1
        await nothing_is_left(proxy)


async def test_a_refused_upgrade_leaves_both_connections_as_they_were(make_proxy, upstream, kit):
    upstream.script = [b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nnever", kit.OK]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        answer = await proxy.ask(
            kit.request(b"GET", b"/up", *UPGRADE) + kit.request(b"GET", b"/up", b"Connection: close")
        )
    assert answer.startswith(b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nneverHTTP/1.1 200 OK\r\n")
    assert len(upstream.connections) == 1


async def test_an_upgrade_with_a_body_is_refused(make_proxy, upstream, kit):
    lines = [b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 30"]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        answer = await proxy.ask(
            kit.request(b"GET", b"/up", *lines, body=b"GET /up/smuggled HTTP/1.1\r\n\r\n")
        )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert upstream.requests == 0


JAVA = (  # what java.net.http of JDK 17 sends
    b"GET /up/ws HTTP/1.1\r\nConnection: Upgrade\r\nContent-Length: 0\r\nHost: localhost\r\n"
    b"Upgrade: websocket\r\nUser-Agent: Java-http-client/17.0.15\r\n"
    b"Sec-WebSocket-Key: 8lfbvSH+eXcna3pxggdPNA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.parametrize("length", [b"0", b"000"])
@pytest.mark.parametrize("early", [b"", b"\x81\x80abcd"])
async def test_a_length_of_zero_is_no_body(make_proxy, upstream, length, early):
    async def switch(connection):
        connection.writer.write(SWITCHED)
        while len(connection.behind) < len(early):
            connection.behind += await connection.reader.read(65536)
        connection.writer.write(b"seen " + connection.behind)
        connection.writer.close()

    upstream.script = [switch]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        answer = await proxy.ask(JAVA.replace(b"Length: 0", b"Length: " + length) + early)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert rest == b"seen " + early


@pytest.mark.parametrize(
    "body", [(b"Content-Length: 2", b"ab"), (b"Transfer-Encoding: chunked", b"0\r\n\r\n")]
)
async def test_a_body_that_came_whole_with_the_upgrade_is_refused_too(make_proxy, upstream, kit, body):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        answer = await proxy.ask(kit.request(b"GET", b"/up", *UPGRADE, body[0], body=body[1]))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert upstream.requests == 0


IGNORED = [  # upgrades other than WebSocket: their fields are removed, the request passes
    [b"Connection: Upgrade", b"Upgrade: h2c"],
    [b"Connection: Upgrade", b"Upgrade: websocket, h2c"],
    [b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c"],
]


@pytest.mark.parametrize("lines", IGNORED)
async def test_any_other_upgrade_is_ignored(make_proxy, upstream, kit, lines):
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        assert (await proxy.get(b"/up", *lines)).endswith(b"\r\n\r\nok")
    assert b"pgrade" not in upstream.received[0]


async def test_a_route_that_does_not_permit_it_ignores_it(proxy, upstream, kit):
    lines = [b"Connection: Upgrade", b"Upgrade: websocket"]
    assert (await proxy.get(b"/up", *lines)).endswith(b"\r\n\r\nok")
    assert b"pgrade" not in upstream.received[0]


async def test_a_rejected_token_is_replaced_before_the_tunnel_opens(make_proxy):
    async with echoing(make_proxy) as proxy:
        await proxy.adopt("rejected")
        answered = []

        async def refuse_once(connection, request):
            answered.append(request.headers["Authorization"])
            return connection.respond(401, "no\n") if len(answered) == 1 else None

        async with serve(lambda c: c.wait_closed(), "127.0.0.1", 0, process_request=refuse_once) as server:
            proxy.lead_to(server.sockets[0].getsockname()[1])
            async with dial(proxy):
                assert answered[0] == "Bearer rejected"
                assert answered[1] != "Bearer rejected"
