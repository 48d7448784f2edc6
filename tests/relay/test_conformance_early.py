"""A17, A18: an upstream that responds before it has the body, with a 100 first or without."""

import asyncio
import contextlib

import pytest

GIGABYTE = 10**9
ENOUGH = 30 * 10**6  # bytes; what the buffers on the way hold is less, uvloop's too
PIECE = b"x" * 65536
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
PATIENCE = 10  # seconds; nothing here should take as long
NO_BODY_FOR_NOW = 0.2  # seconds for which a caller waits for 100
EXPECTING = (b"Expect: 100-continue", b"Content-Length: 5")


class Deciding:
    """Calls `act` once it has a head, and counts the bytes of the body."""

    def __init__(self, kit, act):
        self.got = 0
        self.head = b""
        deciding = self

        class DecidingUpstream(kit.Upstream):
            async def _converse(self, connection):
                deciding.head = await connection.reader.readuntil(b"\r\n\r\n")
                await act(deciding, connection)

        self.serving = kit.serving(DecidingUpstream())

    async def take(self, connection, size):
        while self.got < size:
            data = await connection.reader.read(65536)
            if not data:
                break
            self.got += len(data)


def says(data, *, then_reads=GIGABYTE, first_reads=0):
    async def act(deciding, connection):
        await deciding.take(connection, first_reads)
        connection.writer.write(data)
        await connection.writer.drain()
        await deciding.take(connection, then_reads)
        if then_reads != GIGABYTE:
            await connection.ended.wait()

    return act


async def upload(writer, piece):
    """Send up to a gigabyte, as far as it is taken; returns the number of bytes."""
    sent = 0
    with contextlib.suppress(ConnectionError, RuntimeError):  # uvloop's, of a transport that is closed
        while sent < GIGABYTE:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
    return sent


UPLOADS = {
    "counted": ([b"Content-Length: %d" % GIGABYTE], PIECE),
    "in chunks": ([b"Transfer-Encoding: chunked"], b"10000\r\n" + PIECE + b"\r\n"),
}


@pytest.mark.parametrize("name", UPLOADS)
@pytest.mark.parametrize("reads", [0, GIGABYTE], ids=["stops reading", "reads on"])
async def test_a_refused_upload_of_a_gigabyte_stops_at_once(proxy, kit, name, reads):
    lines, piece = UPLOADS[name]
    deciding = Deciding(kit, says(TOO_LARGE, first_reads=1000, then_reads=reads))
    async with deciding.serving as upstream:
        proxy.lead_to(upstream.port)
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"POST", b"/up", *lines))
        sending = asyncio.create_task(upload(writer, piece))
        answer = await asyncio.wait_for(reader.readuntil(b"big"), PATIENCE)
        assert answer == TOO_LARGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.transport.abort()
        assert await asyncio.wait_for(sending, PATIENCE) < ENOUGH
        assert deciding.got < ENOUGH
        for connection in upstream.connections:
            connection.ended.set()


@contextlib.asynccontextmanager
async def expecting(proxy, kit, act):
    """(the deciding upstream, a caller that has sent its expectation)."""
    deciding = Deciding(kit, act)
    async with deciding.serving as upstream:
        proxy.lead_to(upstream.port)
        reader, writer = await proxy.connect()
        writer.write(kit.request(b"POST", b"/up", *EXPECTING))
        yield deciding, reader, writer
        writer.close()


async def ask_for_the_body(deciding, connection):
    connection.writer.write(GO_ON)
    await deciding.take(connection, 5)
    connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def wait_for_the_body(deciding, connection):
    """An upstream that never sends a 100, so that a caller waits for it in vain."""
    await deciding.take(connection, 5)
    connection.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


BODY_SENT = {"asks for the body": (ask_for_the_body, GO_ON), "never says 100": (wait_for_the_body, b"")}


@pytest.mark.parametrize("name", BODY_SENT)
async def test_a_caller_that_expects_100_is_not_delayed(proxy, kit, name):
    act, interim = BODY_SENT[name]
    async with expecting(proxy, kit, act) as (deciding, reader, writer):
        if interim:
            assert await asyncio.wait_for(reader.readexactly(len(interim)), PATIENCE) == interim
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(1), NO_BODY_FOR_NOW)
        assert (b"\r\nExpect: 100-continue\r\n" in deciding.head, deciding.got) == (True, 0)
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(len(kit.OK)), PATIENCE) == kit.OK


REFUSALS = {
    "417": b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno",
    "401": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno",
    "413 after 100": GO_ON + b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno",
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_caller_that_is_refused_first_need_not_send_its_body(proxy, kit, name):
    async with expecting(proxy, kit, says(REFUSALS[name])) as (deciding, reader, _):
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        assert answer == REFUSALS[name].replace(b"\r\n\r\nno", b"\r\nConnection: close\r\n\r\nno")
        assert deciding.got == 0
