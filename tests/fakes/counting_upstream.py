"""An upstream that counts its connections and requests.

    python -m tests.fakes.counting_upstream [CERTIFICATE [ADDRESS]]

Prints its port as JSON. A line of JSON on stdin changes attributes of State (`{"delay": 0.2}`; `{}` changes
nothing; `forget` resets the counts, `hang_up` ends all connections), and a line with all counts is printed.
It ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, cast

import uvloop

from tests.fakes.crowd import raise_file_limit, say

BACKLOG: Final = 4096
ID: Final = re.compile(rb"\r\nx-id: *([^\r]*)\r\n", re.IGNORECASE)
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
ACCEPTED_KEY: Final = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the proxy passes it unread
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nServer: counting\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b'X-Request-Id: %b\r\nETag: W/"%b"\r\nVary: Accept, Accept-Encoding\r\n'
    b"Cache-Control: private, max-age=0\r\n"
    b"X-RateLimit-Limit: 5000\r\nX-RateLimit-Remaining: %d\r\nX-Content-Type-Options: nosniff\r\n"
    b"Strict-Transport-Security: max-age=31536000\r\n\r\n"
)
UPGRADED: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPTED_KEY + b"\r\n\r\n"
)


@dataclass
class State:
    delay: float = 0.0  # seconds until a response
    accepts: bool = True  # else: connections are made by the kernel, and hear nothing
    holds: bool = False  # no response until it is False again
    closes: bool = False  # the connection, after each response
    size: int = 500  # bytes of a body
    opened: int = 0  # connections so far
    open: int = 0
    most_open: int = 0
    requests: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    abandoned: int = 0  # connections that ended before the response
    upgrades: int = 0
    untokened: int = 0  # requests without a token
    ids: Counter[bytes] = field(default_factory=Counter)
    held: list[Connection] = field(default_factory=list)
    connections: set[Connection] = field(default_factory=set)

    def shown(self) -> dict[str, Any]:
        hidden = {"ids", "held", "connections"}
        counts = {name: value for name, value in vars(self).items() if name not in hidden}
        return counts | {"repeated": sum(count > 1 for count in self.ids.values())}


class Connection(asyncio.Protocol):
    def __init__(self, state: State) -> None:
        self._state = state
        self._received = b""
        self._asked = b""  # the id of the request that waits for its response
        self._is_tunnel = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has classes of its own
        state = self._state
        state.connections.add(self)
        state.opened += 1
        state.open += 1
        state.most_open = max(state.most_open, state.open)

    def data_received(self, data: bytes) -> None:
        if self._is_tunnel:
            self._transport.write(data)
            return
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        head += b"\r\n"
        length = LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        self._serve(head.lower())

    def _serve(self, head: bytes) -> None:
        state = self._state
        found = ID.search(head)
        self._asked = found[1] if found else b"none"
        state.requests += 1
        state.ids[self._asked] += 1
        state.untokened += b"\r\nauthorization: bearer " not in head
        state.in_flight += 1
        state.most_in_flight = max(state.most_in_flight, state.in_flight)
        if b"\r\nupgrade: websocket\r\n" in head:
            self._is_tunnel = True
            state.upgrades += 1
            self._respond(UPGRADED)
        elif state.holds:
            state.held.append(self)
        elif state.delay:
            asyncio.get_running_loop().call_later(state.delay, self.respond)
        else:
            self.respond()

    def respond(self) -> None:
        name, state = self._asked, self._state
        body = (name + b"\n").ljust(state.size)
        head = HEAD % (len(body), name, name, state.requests % 5000)
        if state.closes:
            head = head.replace(b"\r\nServer:", b"\r\nConnection: close\r\nServer:", 1)
        self._respond(head + body)
        if state.closes:
            self._transport.close()

    def _respond(self, response: bytes) -> None:
        if self._asked:
            self._asked = b""
            self._state.in_flight -= 1
            self._transport.write(response)

    def hang_up(self) -> None:
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        state = self._state
        state.connections.discard(self)
        state.open -= 1
        if self._asked:
            self._asked = b""
            state.in_flight -= 1
            state.abandoned += 1


class Server:
    """Accepts connections while `state.accepts`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, certificate: str) -> None:
        self.state = State()
        self._loop = loop
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(certificate)
        self._listener = socket.create_server((host, 0), backlog=BACKLOG)
        self._listener.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = self._listener.getsockname()[1]
        loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(64):
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            task = self._loop.create_task(self._open(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: Connection(self.state), sock, ssl=self._tls)
        except (OSError, ssl.SSLError):
            sock.close()

    def change(self, line: str) -> None:
        changes = json.loads(line)
        state = self.state
        if changes.pop("forget", False):
            state.ids.clear()
            state.most_in_flight, state.most_open = state.in_flight, state.open
            state.opened = state.requests = state.abandoned = state.untokened = state.upgrades = 0
        if changes.pop("hang_up", False):
            for connection in list(state.connections):
                connection.hang_up()
        for name, value in changes.items():
            setattr(state, name, value)
        self._loop.remove_reader(self._listener)
        if state.accepts:
            self._loop.add_reader(self._listener, self._accept)
        if not state.holds:
            held, state.held = state.held, []
            for connection in held:
                connection.respond()
        say(state.shown())


async def serve() -> None:
    loop = asyncio.get_running_loop()
    host = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    server = Server(loop, host, sys.argv[1] if len(sys.argv) > 1 else "")
    over = asyncio.Event()

    def obey() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(server.change, line)
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=obey, daemon=True).start()
    say({"port": server.port})
    await over.wait()


def main() -> None:
    raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
