"""The bytes of an upstream connection: a raw non-blocking socket, with or without TLS.

TLS runs over two memory buffers: one read from the socket brings several records, where an SSLSocket reads
each in two; and what the kernel did not take is ours to send again, in whatever pieces.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

READ_SIZE: Final = 65536  # bytes
RECORD: Final = 16 * 1024  # bytes; what one read of TLS can bring (RFC 8446 section 5.1)
# All TLS connections read into this buffer, one at a time: seven records, which make a payload just below the
# 128 KiB from which malloc goes to the kernel each time.
_ARRIVED: Final = memoryview(bytearray(7 * (RECORD + 22)))


def is_alert(error: OSError) -> bool:
    """Whether the other side has said why it ends TLS with us (RFC 8446 section 6.2)."""
    return isinstance(error, ssl.SSLError) and "_ALERT_" in (error.reason or "")  # OpenSSL's names


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
                self._take(await loop.sock_recv(self.sock, RECORD))
            else:
                await loop.sock_sendall(self.sock, self._outgoing.read())
                return

    def receive(self) -> bytes | None:
        try:
            size = self.sock.recv_into(_ARRIVED)
        except (BlockingIOError, InterruptedError):
            return None
        self._take(_ARRIVED[:size])
        return self._decrypted(at_end=not size)

    def _take(self, data: bytes | memoryview) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _decrypted(self, *, at_end: bool) -> bytes | None:
        """All whole records; None for what carries no data, such as session tickets."""
        parts: list[bytes] = []
        incoming = self._incoming
        while incoming.pending or at_end:
            try:
                part = self._tls.read(RECORD)
            except ssl.SSLWantReadError:
                break
            if not part:  # close_notify; what came before it is told first
                self.ended = True
                return b"".join(parts)
            if not parts and not incoming.pending:  # a small answer, as most are
                return part
            parts.append(part)
        return b"".join(parts) or None

    def encode(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()
