"""The bytes of an upstream connection: a raw non-blocking socket, with or without TLS.

TLS runs over two memory buffers: one read from the socket brings several records, where an SSLSocket reads
each in two; and what the kernel did not take is ours to send again, in whatever pieces.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

READ_SIZE: Final = 65536  # bytes; four TLS records


class Wire:
    """Plain bytes. `receive` and `send` raise OSError when the connection is broken."""

    __slots__ = ("ended", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.ended = False  # the end came with the bytes before it: no descriptor becomes readable for it

    def receive(self) -> bytes | None:
        """What has arrived; b"" at the end; None if there is nothing after all."""
        try:
            return self.sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None

    def encode(self, data: bytes) -> bytes:
        """What goes over the socket for `data`."""
        return data

    def send(self, encoded: bytes) -> int:
        """Hand encoded bytes to the kernel; returns how many it took."""
        try:
            return self.sock.send(encoded)
        except (BlockingIOError, InterruptedError):
            return 0


class TLSWire(Wire):
    """The same under TLS. An end without close_notify raises: what was cut must not look complete."""

    __slots__ = ("_incoming", "_outgoing", "_tls")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    async def handshake(self) -> None:
        """Raises OSError, ssl.SSLError among them."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await loop.sock_sendall(self.sock, self._outgoing.read())
                self._take(await loop.sock_recv(self.sock, READ_SIZE))
            else:
                await loop.sock_sendall(self.sock, self._outgoing.read())
                return

    def receive(self) -> bytes | None:
        data = super().receive()
        if data is None:
            return None
        self._take(data)
        return self._decrypted(at_end=not data)

    def _take(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _decrypted(self, *, at_end: bool) -> bytes | None:
        """All whole records; None for what carries no data, such as session tickets."""
        parts: list[bytes] = []
        while self._incoming.pending or at_end:
            try:
                part = self._tls.read(READ_SIZE)
            except ssl.SSLWantReadError:
                break
            if not part:  # close_notify; what came before it is told first
                self.ended = True
                return b"".join(parts)
            parts.append(part)
        if len(parts) == 1:
            return parts[0]
        return b"".join(parts) or None

    def encode(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()
