"""An upstream that writes and ends its connection within one turn of the loop.

Its data and the end arrive at the other side as one event, as from a separate process; asyncio streams can't
do that. It runs on raw sockets in the test's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

RESET = struct.pack("ii", 1, 0)  # SO_LINGER with zero timeout
Script = Callable[["Pipe"], "asyncio.Future[None] | object"]


class Pipe:
    """One accepted connection, plain or under TLS."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self.sock = sock
        self.received = b""
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context and context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self, *, flush: bool = True) -> None:
        """`flush`: send the end of the handshake, session tickets included."""
        while self.tls is not None:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._loop.sock_sendall(self.sock, self._outgoing.read())
                self._incoming.write(await self._loop.sock_recv(self.sock, 65536))
            else:
                if flush:
                    self.sock.send(self._outgoing.read())
                return

    async def until(self, end: bytes) -> None:
        """Read until `end` has come. Raises EOFError."""
        self.received += self._decrypted(b"")  # it may have come with the handshake
        while end not in self.received:
            data = await self._loop.sock_recv(self.sock, 65536)
            if not data:
                raise EOFError
            self.received += self._decrypted(data)

    def _decrypted(self, data: bytes) -> bytes:
        if self.tls is None:
            return data
        self._incoming.write(data)
        parts = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while part := self.tls.read(65536):
                parts.append(part)
        return b"".join(parts)

    def say(self, data: bytes) -> None:
        """With one system call."""
        if self.tls is not None:
            if data:
                self.tls.write(data)
            data = self._outgoing.read()
        assert not data or self.sock.send(data) == len(data)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    def close(self) -> None:
        """Without close_notify."""
        self.sock.close()


class AbruptUpstream:
    """Calls `act(pipe)` for each request, or for each connection if `at_once`."""

    def __init__(self, act: Script, context: ssl.SSLContext | None = None, *, at_once: bool = False) -> None:
        self.act, self.context, self.at_once = act, context, at_once
        self.requests = self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._pipes: list[Pipe] = []

    async def accept(self, listening: socket.socket) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(listening)
            sock.setblocking(False)
            sock.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # a partial record would be lost by a reset
            self.connections += 1
            self._tasks.add(asyncio.ensure_future(self._converse(Pipe(sock, self.context))))

    async def _converse(self, pipe: Pipe) -> None:
        self._pipes.append(pipe)
        with contextlib.suppress(OSError, EOFError):
            await pipe.handshake(flush=not self.at_once)
            while pipe.sock.fileno() >= 0:
                if not self.at_once:
                    await pipe.until(b"\r\n\r\n")
                    pipe.received = pipe.received.partition(b"\r\n\r\n")[2]
                self.requests += 1
                result = self.act(pipe)
                if asyncio.iscoroutine(result):
                    await result
                if self.at_once:
                    return

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Yields its port."""
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
            listening.setblocking(False)
            accepting = asyncio.ensure_future(self.accept(listening))
            try:
                yield listening.getsockname()[1]
            finally:
                for task in (accepting, *self._tasks):
                    task.cancel()
                await asyncio.wait([accepting, *self._tasks])
                for pipe in self._pipes:
                    pipe.sock.close()
