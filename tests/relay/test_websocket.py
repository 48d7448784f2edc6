"""WebSocket goes through as bytes, where the route permits it."""

import asyncio
import contextlib
import os

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


@contextlib.asynccontextmanager
async def echoing(make_proxy):
    """A proxy in front of a WebSocket server that sends back what it gets; its tokens are seen in `heads`."""
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
    async with echoing(make_proxy) as proxy, dial(proxy, compression=compression) as socket:
        await socket.send(MESSAGES[name])
        assert await socket.recv() == MESSAGES[name]


async def test_the_token_is_attached_and_nothing_of_the_callers_own(make_proxy):
    fields = {"Authorization": "Basic theirs", "X-Forwarded-For": "1"}
    async with echoing(make_proxy) as proxy, dial(proxy, additional_headers=fields):
        (head,) = proxy.heads
        assert head.get_all("Authorization")[0].startswith("Bearer ")
        assert len(head.get_all("Authorization")) == 1
        assert "X-Forwarded-For" not in head


async def test_fragments_pings_and_close_codes_pass(make_proxy):
    async with echoing(make_proxy) as proxy, dial(proxy) as socket:
        await socket.send(["in ", "three ", "pieces"])
        assert await socket.recv() == "in three pieces"
        await (await socket.ping())
        await socket.send("close")
        with pytest.raises(websockets.ConnectionClosedError):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (4001, "as asked")


async def test_an_abrupt_end_on_either_side_ends_the_other(make_proxy):
    async with echoing(make_proxy) as proxy:
        async with dial(proxy) as socket:
            await socket.send("abort")
            with pytest.raises(websockets.ConnectionClosedError):
                await socket.recv()
        async with dial(proxy) as socket:
            await socket.send("x")
            await socket.recv()
            socket.transport.abort()
        while proxy.lane.in_flight:
            await asyncio.sleep(0.01)


async def test_frames_sent_before_the_answer_are_not_read_as_a_request(make_proxy, upstream, kit):
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


async def test_a_declined_upgrade_is_an_answer_like_any_other(make_proxy, upstream, kit):
    lines = [b"Connection: Upgrade, close", b"Upgrade: websocket"]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        assert (await proxy.ask(kit.request(b"GET", b"/up", *lines))).endswith(b"\r\n\r\nok")


async def test_an_upgrade_with_a_body_is_refused(make_proxy, upstream, kit):
    lines = [b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 30"]
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", route="websocket = true") as proxy:
        answer = await proxy.ask(
            kit.request(b"GET", b"/up", *lines, body=b"GET /up/smuggled HTTP/1.1\r\n\r\n")
        )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert upstream.requests == 0


IGNORED = [  # upgrades that are not WebSocket on a route that permits it: their fields go, the request stays
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
