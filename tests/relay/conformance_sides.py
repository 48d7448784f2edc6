"""The two peers of the proxy in the conformance suite: a strict upstream, and a caller."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from proxy.name_lookup import resolver

from .conformance_strict import Malformed, read_answer, read_request
from .conftest import proxying

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OK_AND_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
SMUGGLED = b"GET /up/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
TOKEN = "ours"
PATIENCE = 5  # seconds; nothing here should take as long
LINGER_OF_NO_TIME = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # the kernel sends RST
ROUTES = """
[[routes]]
path = "/ws"
upstream = "{url}"
credential = "cred"
websocket = true
"""


async def turns(number=3):
    """Let the loop deliver the sent data, so that the next data arrives with another read."""
    for _ in range(number):
        await asyncio.sleep(0)


class Strict:
    """An upstream that records every request, and every byte outside of requests.

    `answers` holds the responses to the next requests: (pieces, "stay" | "close" | "reset").
    """

    def __init__(self):
        self.messages = []
        self.faults = []
        self.connections = 0
        self.answers = deque()
        self.port = 0
        self.writers = []

    def forget(self):
        self.messages, self.faults = [], []
        self.answers.clear()

    def take(self):
        """The requests since the last call; fails if malformed bytes have arrived."""
        assert self.faults == []
        taken, self.messages = self.messages, []
        return taken

    async def serve(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError):
            try:
                await self._converse(reader, writer)
            except Malformed as fault:
                self.faults.append(str(fault))
        self.writers.remove(writer)
        writer.close()

    async def _converse(self, reader, writer):
        data = b""
        while piece := await reader.read(65536):
            data += piece
            while (message := read_request(data)) is not None:
                data = data[len(message.raw) :]
                self.messages.append(message)
                await self._answer(message, writer)

    async def _answer(self, message, writer):
        pieces, then = self.answers.popleft() if self.answers else ([_ok(message)], "stay")
        for piece in pieces:
            if not writer.is_closing():  # uvloop refuses to write then
                writer.write(piece)
            await turns()
        if then == "reset":
            await turns(10)  # a reset destroys unread data
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OF_NO_TIME)
            writer.transport.abort()
        elif then == "close":
            writer.close()


def _ok(message):
    return OK[:-2] if message.start[0] == b"HEAD" else OK


class Cut(Exception):
    """The connection ended before the response did. `args[0]`: the part received."""


class Caller:
    def __init__(self, port):
        self._sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = asyncio.get_running_loop()
        self._data = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._sock.close()

    async def say(self, *pieces):
        """Send each piece so that it arrives with its own read. Stops if the connection has ended."""
        for piece in pieces:
            with contextlib.suppress(ConnectionError):
                await self._loop.sock_sendall(self._sock, piece)
            if len(pieces) > 1:
                await turns()

    def end(self):
        """End our side; keep reading."""
        with contextlib.suppress(OSError):  # the peer may have ended it already
            self._sock.shutdown(socket.SHUT_WR)

    async def _more(self):
        return await asyncio.wait_for(self._loop.sock_recv(self._sock, 65536), PATIENCE)

    async def hear(self, method=b"GET"):
        """One final response with the interim ones before it: a list of messages. Raises Cut, Malformed."""
        heard, ended = [], False
        while not heard or heard[-1].status < 200:
            message = read_answer(self._data, method, ended=ended)
            if message is not None:
                heard.append(message)
                self._data = self._data[len(message.raw) :]
            elif ended:
                raise Cut(b"".join(one.raw for one in heard) + self._data)
            else:
                try:
                    data = await self._more()
                except ConnectionResetError as error:
                    raise Cut(b"".join(one.raw for one in heard) + self._data) from error
                self._data += data
                ended = not data
        return heard

    async def hear_end(self):
        """All bytes until the connection ends, in whatever way."""
        with contextlib.suppress(ConnectionResetError):
            while data := await self._more():
                self._data += data
        return self._data


class Side:
    """A proxy with its strict upstream. `/up` is a plain route, `/ws` one that permits WebSocket."""

    def __init__(self, proxy, upstream, dialled):
        self.proxy, self.upstream, self.dialled = proxy, upstream, dialled
        self._names = {
            b"@HOST@": b"127.0.0.1:%d" % upstream.port,
            b"@VIA@": proxy.relay.context.via,
        }

    def fill(self, text):
        """Replace @HOST@ and @VIA@ by their values."""
        for name, value in self._names.items():
            text = text.replace(name, value)
        return text

    def caller(self):
        return Caller(self.proxy.port)

    async def all_is_well(self):
        """The next request arrives alone and gets its own response; nothing is left over."""
        with self.caller() as caller:
            await caller.say(b"GET /up/next HTTP/1.1\r\nHost: localhost\r\n\r\n")
            (answer,) = await caller.hear()
        assert answer.raw == OK
        (message,) = self.upstream.take()
        assert message.start[1] == b"/base/next"
        assert self.dialled == {"127.0.0.1"}
        for runtime in self.proxy.relay.runtimes:
            assert (runtime.in_flight, runtime.pool(self.proxy.account).active) == (0, 0)


@contextmanager
def dialled_hosts():
    """The hosts that were looked up; the proxy connects to no others."""
    hosts = set()
    look_up = resolver.addresses

    async def addresses(host, port, **_):
        hosts.add(host)
        return await look_up(host, port)

    resolver.addresses = addresses
    try:
        yield hosts
    finally:
        del resolver.addresses


@asynccontextmanager
async def conforming(folder):
    upstream = Strict()
    async with AsyncExitStack() as stack:
        dialled = stack.enter_context(dialled_hosts())
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
        stack.callback(server.close)
        upstream.port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{upstream.port}/base"
        proxy = await stack.enter_async_context(proxying(folder, url, route=ROUTES.format(url=url)))
        await proxy.adopt(TOKEN)
        yield Side(proxy, upstream, dialled)
        for writer in list(upstream.writers):
            writer.close()
