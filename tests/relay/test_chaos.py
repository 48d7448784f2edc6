"""Callers that vanish at any moment leave nothing behind: no connection, no task, no response for another.

Waves of callers that vanish alternate with waves of callers that check, on one proxy. Each request has a
number; its body and its response are derived from the number alone, so that a byte of another one is noticed.
The seed is in the test's name: `-k "plain and 1"` runs the same random choices again.
"""

import asyncio
import collections
import contextlib
import hashlib
import random
import socket
import struct
from pathlib import Path

import httptools
import pytest

from proxy import tasks
from proxy.demo import faults

AT_ONCE = 100  # callers in a wave
SEEDS = {("plain", 1): 3500, ("plain", 2): 3500, ("tls", 3): 3000}  # callers of each kind: 10 000 and 10 000
PATIENCE = 20  # seconds; nothing here should take as long
NOISE = random.Random(0).randbytes(200_000)
WITHOUT_TOKEN = 8  # every so many waves the token has expired, and all of the wave wait for a new one


# -- requests, and their expected responses


def body_of(number):
    """The request's body; that of every tenth is longer than the spool."""
    size = 90_000 if number % 10 == 7 else number % 1000
    return NOISE[number : number + size]


def asked(kit, number, *lines):
    kind = number % 4
    path = b"/up/%06d" % number
    if kind < 2:
        return kit.request(b"GET", path, *lines)
    body, method = body_of(number), b"POST" if number % 8 < 6 else b"PUT"
    if kind == 2:
        return kit.request(method, path, b"Content-Length: %d" % len(body), *lines, body=body)
    at = len(body) // 3
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:at], body[at:]) if part)
    return kit.request(method, path, b"Transfer-Encoding: chunked", *lines, body=body + b"0\r\n\r\n")


def answer_to(number):
    """The payload; for a request with a body it contains the body's digest."""
    digest = hashlib.sha256(body_of(number) if number % 4 > 1 else b"").hexdigest().encode()
    return b"%06d %b\n" % (number, digest) * (1 + number % 300)


class Requests:
    """The requests that llhttp finds in one connection's bytes."""

    def __init__(self):
        self.complete = []  # (number, digest of the body)
        self._path, self._digest = b"", hashlib.sha256()

    def on_url(self, url):
        self._path += url

    def on_body(self, data):
        self._digest.update(data)

    def on_message_complete(self):
        self.complete.append((int(self._path.rpartition(b"/")[2]), self._digest.hexdigest().encode()))
        self._path, self._digest = b"", hashlib.sha256()


def echoing(kit, chance):
    class Echo(kit.Upstream):
        """Respond to each request in pieces, after a moment; count how often each number came."""

        def __init__(self):
            super().__init__()
            self.seen = collections.Counter()

        async def _converse(self, connection):
            found = Requests()
            parser = httptools.HttpRequestParser(found)
            while data := await connection.reader.read(65536):
                parser.feed_data(data)
                for number, digest in found.complete:
                    self.seen[number] += 1
                    await self._answer(connection.writer, number, digest)
                found.complete.clear()

        async def _answer(self, writer, number, digest):
            if number % 3 == 0:
                await asyncio.sleep(chance.random() * 0.004)
            payload = b"%06d %b\n" % (number, digest) * (1 + number % 300)
            pieces = [payload[: number % 50], payload[number % 50 : 9000], payload[9000:]]
            if number % 2:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(payload))
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece] + [b"0\r\n\r\n"]
            for piece in pieces:
                writer.write(piece)
                await writer.drain()

    return Echo()


# -- callers that check


class Checking:
    """A caller that keeps its connection for a while, and accepts only its own responses."""

    def __init__(self, proxy, kit):
        self._proxy, self._kit = proxy, kit
        self._reader = self._writer = None

    async def ask(self, number):
        last = number % 5 == 0
        if self._writer is None:
            self._reader, self._writer = await self._proxy.connect()
        self._writer.write(asked(self._kit, number, *([b"Connection: close"] if last else [])))
        async with asyncio.timeout(PATIENCE):
            head = await self._reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n"), (number, head)
            payload = await self._payload(head)
        assert payload == answer_to(number), number
        if last:
            assert await self._reader.read() == b""
            self.leave()

    async def _payload(self, head):
        fields = head.split(b"\r\n")
        for field in fields:
            if field.startswith(b"Content-Length: "):
                return await self._reader.readexactly(int(field[16:]))
        payload = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            payload += (await self._reader.readexactly(size + 2))[:-2]
        assert await self._reader.readexactly(2) == b"\r\n"
        return payload

    def leave(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None


# -- callers that vanish


async def vanish(proxy, kit, number, chance):
    reader, writer = await proxy.connect()
    request = asked(kit, number)
    point = chance.choice(["within the request", "after it", "after a while", "within the response"])
    if point == "within the request":
        writer.write(request[: chance.randrange(len(request))])
        await asyncio.sleep(chance.random() * 0.004)
    else:
        writer.write(request)
    if point == "after a while":
        await asyncio.sleep(chance.random() * 0.008)
    if point == "within the response":
        with contextlib.suppress(ConnectionError):
            received = await asyncio.wait_for(reader.read(chance.randint(1, 30_000)), PATIENCE)
            check_part(number, received)
    leave(writer, chance.choice(["close", "abort", "reset", "half"]))


def check_part(number, received):
    head, _, payload = received.partition(b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 OK\r\n"), (number, received)
    if b"Content-Length" in head:
        assert answer_to(number).startswith(payload), number


def leave(writer, how):
    if how == "reset":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half":
        with contextlib.suppress(OSError):
            writer.write_eof()
    writer.close() if how == "close" else writer.transport.abort()


# -- the test


def open_files():
    return len(list(Path("/dev/fd").iterdir()))


@contextlib.asynccontextmanager
async def chaotic(make_proxy, kit, kind, chance, tls):
    context, ca = tls
    async with kit.serving(echoing(kit, chance), context if kind == "tls" else None) as upstream:
        url = f"{'https' if kind == 'tls' else 'http'}://localhost:{upstream.port}"
        route = f'tls = {{ ca = "{ca}" }}' if kind == "tls" else ""
        async with make_proxy(url, route=route) as proxy:
            yield proxy, upstream


async def settled(proxy, pool):
    """Wait until nothing is in use any more."""
    for _ in range(200):
        if not proxy.relay._connections and not pool.active and not proxy.runtime.in_flight:
            return
        await asyncio.sleep(0.05)


async def clear_files(proxy, pool, upstream):
    """Close the idle connections; returns the number of files open then."""
    pool.close_idle(float("inf"))
    for connection in upstream.connections:
        await asyncio.wait_for(connection.ended.wait(), PATIENCE)
    upstream.connections.clear()
    for _ in range(3):
        await asyncio.sleep(0)  # transports close a turn later
    return open_files()


@pytest.mark.parametrize(("kind", "seed"), SEEDS)
async def test_callers_that_vanish_leave_nothing_behind(make_proxy, kit, tls_authority, kind, seed):
    chance = random.Random(seed)
    callers = SEEDS[kind, seed]
    async with chaotic(make_proxy, kit, kind, chance, tls_authority) as (proxy, upstream):
        checking = [Checking(proxy, kit) for _ in range(AT_ONCE)]
        pool = proxy.runtime.pool(proxy.account)
        await checking[0].ask(999_995)  # loads everything that is loaded once
        await settled(proxy, pool)
        files = await clear_files(proxy, pool, upstream)
        for wave in range(callers // AT_ONCE):
            if wave % WITHOUT_TOKEN == 0:
                await proxy.adopt("expired", lifetime=0.0)
                proxy.server.script(faults.delay(0.01))
            numbers = range(wave * AT_ONCE, (wave + 1) * AT_ONCE)
            await asyncio.gather(*(vanish(proxy, kit, number, chance) for number in numbers))
            await asyncio.gather(
                *(caller.ask(500_000 + n) for caller, n in zip(checking, numbers, strict=True))
            )
        for caller in checking:
            caller.leave()
        await settled(proxy, pool)

        # some have waited for a token; how many of them vanished first depends on the machine
        assert proxy.sample("token_wait_seconds_count", credential="cred") > callers / WITHOUT_TOKEN / 5
        assert proxy.sample("requests_total", route="up", method="POST", code="499"), "nobody vanished"
        check_attempts(upstream.seen, callers)
        assert not proxy.relay._connections
        assert (proxy.runtime.in_flight, proxy.relay.context.lasting.waiting) == (0, 0)
        assert (pool.active, len(pool._open)) == (0, pool.idle)
        assert not [task for task in tasks._running if "request" in task.get_name()]
        assert await clear_files(proxy, pool, upstream) == files


def check_attempts(seen, callers):
    """All requests of checking callers arrived, and some others; POSTs once, the rest at most twice."""
    for number in range(500_000, 500_000 + callers):
        assert 1 <= seen[number] <= 2, number
    assert len(seen) > callers * 1.3
    posts = [number for number in seen if number % 4 > 1 and number % 8 < 6]
    assert all(seen[number] == 1 for number in posts)
