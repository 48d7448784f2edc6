"""Event streams: an event reaches the caller at once, not when more data follows."""

import asyncio
import random
import socket
import struct

import pytest

PATIENCE = 20  # seconds; nothing here should take as long
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
STREAMS = 200
EVENTS = 25  # on each


def chunk(data):
    return b"%X\r\n%b\r\n" % (len(data), data)


def as_it_is(data):
    return data


FRAMINGS = {"chunked": (CHUNKED, chunk), "until the connection ends": (UNTIL_CLOSE, as_it_is)}


async def next_event(reader):
    """The text of the next event, in any framing."""
    event = await asyncio.wait_for(reader.readuntil(b"\n\n"), PATIENCE)
    return event.rpartition(b"data: ")[2].strip()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_event_reaches_the_caller_before_the_next_one_is_sent(
    make_proxy, upstream, tls_upstream, kit, scheme, framing
):
    head, framed = FRAMINGS[framing]
    heard = asyncio.Queue()

    async def tell(connection):
        connection.writer.write(head)
        for number in range(10):
            connection.writer.write(framed(b"data: %d\n\n" % number))
            assert await asyncio.wait_for(heard.get(), PATIENCE) == b"%d" % number
        connection.writer.close()

    served, url, route = {
        "http": (upstream, f"http://127.0.0.1:{upstream.port}", ""),
        "https": (
            tls_upstream,
            f"https://localhost:{tls_upstream.port}",
            f'tls = {{ ca = "{tls_upstream.ca}" }}',
        ),
    }[scheme]
    served.script = [tell]
    async with make_proxy(url, route=route) as proxy:
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up", b"Accept: text/event-stream"))
        for number in range(10):
            assert await next_event(reader) == b"%d" % number
            heard.put_nowait(b"%d" % number)
        writer.close()


async def test_the_head_reaches_the_caller_before_the_first_event(proxy, upstream, kit):
    heard = asyncio.Event()

    async def tell(connection):
        connection.writer.write(CHUNKED)
        await asyncio.wait_for(heard.wait(), PATIENCE)
        connection.writer.write(chunk(b"data: 1\n\n") + b"0\r\n\r\n")

    upstream.script = [tell]
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE) == CHUNKED
    heard.set()
    assert await next_event(reader) == b"1"
    writer.close()


class Telling:
    """An upstream that sends all streams their events, a few at a time, in random order."""

    def __init__(self, kit):
        self.told = {}
        self.writers = {}
        self.all_there = asyncio.Event()
        self.ended = asyncio.Event()
        self.served = kit.Upstream()
        self.served.script = [self.enlist] * STREAMS

    async def enlist(self, connection):
        name = connection.received.split(b" ")[1].rpartition(b"/")[2].decode()
        self.told[name] = []
        self.writers[name] = connection.writer
        connection.writer.write(CHUNKED)
        if len(self.writers) == STREAMS:
            self.all_there.set()
        await self.ended.wait()

    async def tell_all(self, chance):
        await asyncio.wait_for(self.all_there.wait(), PATIENCE)
        turns = [name for name in self.writers for _ in range(EVENTS)]
        chance.shuffle(turns)
        for turn, name in enumerate(turns):
            event = f"{name}-{len(self.told[name])}"
            self.told[name].append(event)
            self.writers[name].write(chunk(f"data: {event}\n\n".encode()))
            if turn % 20 == 0:
                await asyncio.sleep(0)
        for writer in self.writers.values():
            writer.write(b"0\r\n\r\n")
        self.ended.set()


async def test_hundreds_of_streams_at_once_get_their_own_events_in_order(make_proxy, kit):
    telling = Telling(kit)

    async def listen(proxy, name):
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", f"/up/{name}".encode(), b"Connection: close"))
        received = [(await next_event(reader)).decode() for _ in range(EVENTS)]
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"\r\n0\r\n\r\n"
        writer.close()
        return received

    async with (
        kit.serving(telling.served) as upstream,
        make_proxy(f"http://127.0.0.1:{upstream.port}") as proxy,
    ):
        names = [f"stream{number}" for number in range(STREAMS)]
        *heard, _ = await asyncio.gather(
            *(listen(proxy, name) for name in names), telling.tell_all(random.Random(3))
        )
        assert dict(zip(names, heard, strict=True)) == telling.told
        assert all(len(events) == EVENTS for events in heard)
        assert proxy.runtime.in_flight == 0


@pytest.mark.parametrize("leaves", ["close", "reset"])
async def test_a_silent_upstream_sees_the_caller_leave(proxy, upstream, kit, leaves):
    async def tell_once(connection):
        connection.writer.write(CHUNKED + chunk(b"data: 1\n\n"))
        assert await asyncio.wait_for(connection.reader.read(), PATIENCE) == b""
        connection.writer.close()

    upstream.script = [tell_once]
    reader, writer = await proxy.connect()
    writer.write(kit.request(b"GET", b"/up"))
    await next_event(reader)
    (connection,) = upstream.connections
    assert not connection.ended.is_set()
    if leaves == "reset":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    await asyncio.wait_for(connection.ended.wait(), PATIENCE)
    assert proxy.runtime.in_flight == 0
    assert proxy.runtime.pool(proxy.account).active == 0
    assert proxy.sample("requests_total", route="up", method="GET", code="499") == 1


async def test_a_stream_may_be_silent_for_longer_than_first_byte(make_proxy, upstream, kit):
    async def silent(connection):
        connection.writer.write(CHUNKED + chunk(b"data: 1\n\n"))
        await connection.writer.drain()
        await asyncio.sleep(1.2)
        connection.writer.write(chunk(b"data: 2\n\n") + b"0\r\n\r\n")

    upstream.script = [silent]
    limits = "first_byte = 0.3\nidle = 0.3\nheader_time = 0.3\nupstream_idle = 0.3"
    async with make_proxy(f"http://127.0.0.1:{upstream.port}", limits=limits) as proxy:
        answer = await proxy.get()
    assert answer.endswith(chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n") + b"0\r\n\r\n")


async def test_an_end_that_comes_with_the_last_bytes_is_passed_on_at_once(make_proxy, tls_upstream, kit):
    """Under TLS the end is a record after the last one; the connection stays open until we end it, too."""

    async def tell_and_leave(connection):
        connection.writer.write(UNTIL_CLOSE + b"data: last\n\n")
        connection.writer.close()

    tls_upstream.script = [tell_and_leave]
    route = f'tls = {{ ca = "{tls_upstream.ca}" }}'
    async with make_proxy(f"https://localhost:{tls_upstream.port}", route=route) as proxy:
        answer = await proxy.ask(kit.request(b"GET", b"/up"))
        assert answer.endswith(b"\r\n\r\ndata: last\n\n")
        assert proxy.runtime.pool(proxy.account).active == 0


async def test_an_end_is_passed_on_after_a_slow_caller_took_the_last_bytes(make_proxy, tls_upstream, kit):
    size = 30 * 2**20

    async def tell_and_leave(connection):
        connection.writer.write(UNTIL_CLOSE + b"x" * size)
        connection.writer.close()

    tls_upstream.script = [tell_and_leave]
    route = f'tls = {{ ca = "{tls_upstream.ca}" }}'
    async with make_proxy(f"https://localhost:{tls_upstream.port}", route=route) as proxy:
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"GET", b"/up"))
        received = 0
        while data := await asyncio.wait_for(reader.read(200_000), PATIENCE):
            received += len(data.rpartition(b"\r\n\r\n")[2])
            await asyncio.sleep(0.001)
        assert received == size
        writer.close()
