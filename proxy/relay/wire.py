"""The bytes of an upstream connection: a raw non-blocking socket, with or without TLS.

TLS runs over two memory buffers: one read from the socket brings several records, where an SSLSocket reads
each in two; and what the kernel did not take is ours to send again, in whatever pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from typing import Final

from proxy.relay.failures import Failure

READ_SIZE: Final = 65536  # bytes
RECORD: Final = 16 * 1024  # bytes; what one read of TLS can bring (RFC 8446 section 5.1)
# All TLS connections read into this buffer, one at a time: seven records, which make a payload just below the
# 128 KiB from which malloc goes to the kernel each time.
_ARRIVED: Final = memoryview(bytearray(7 * (RECORD + 22)))


# An upstream that wants to renegotiate TLS 1.2 is refused (RFC 9325 section 3.5 permits that; TLS 1.3 has no
# renegotiation): what it asks for in the middle of a connection, such as a certificate for one path, it can
# ask for in the handshake. No kernel says this of a connection that is open.
RENEGOTIATION: Final = errno.EPROTO


def failure_of(error: OSError) -> Failure:
    """What a broken connection means for the exchange on it (RFC 8446 section 6.2)."""
    if error.errno == RENEGOTIATION:
        return Failure.RENEGOTIATION
    if isinstance(error, ssl.SSLError) and "_ALERT_" in (error.reason or ""):  # OpenSSL's names
        return Failure.ALERT
    return Failure.ENDED


class Wire:
    """Plain bytes. `receive` and `send` raise OSError when the connection is broken."""

    __slots__ = ("ended", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.ended = False  # the upstream has said, before its last bytes were taken, that no more follow

    @property
    def has_more(self) -> bool:
        """Whether something is there that makes no descriptor readable."""
        return False

    def receive(self) -> bytes | None:
        """What has arrived; b"" at the end; None if the kernel has nothing more. Raises OSError."""
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

    def end(self) -> None:
        """Say that nothing more is sent. Best effort: the upstream may be gone, or read nothing."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()


class TLSWire(Wire):
    """The same under TLS. An end without close_notify raises: what was cut must not look complete."""

    __slots__ = ("_error", "_incoming", "_outgoing", "_tls")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(sock)
        self._error: OSError | None = None  # that ends what was received, once that has been taken
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

    @property
    def has_more(self) -> bool:
        """It came with the handshake."""
        return self._incoming.pending > 0

    def receive(self) -> bytes | None:
        """The same; what carries no data, such as session tickets, is read past. Raises OSError."""
        if self.ended:
            return b""
        if self._error is not None:
            raise self._error
        data = self._decrypted(at_end=False) if self._incoming.pending else None
        while data is None:
            try:
                size = self.sock.recv_into(_ARRIVED)
            except (BlockingIOError, InterruptedError):
                return None
            self._take(_ARRIVED[:size])
            data = self._decrypted(at_end=not size)
            if self._outgoing.pending:
                self._check_not_renegotiating()
        return data

    def _take(self, data: bytes | memoryview) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _decrypted(self, *, at_end: bool) -> bytes | None:
        """All whole records; None for what carries no data; b"" at a close_notify."""
        parts: list[bytes] = []
        incoming = self._incoming
        while incoming.pending or at_end:
            try:
                part = self._tls.read(RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                if not parts:
                    raise
                self._error = error  # what came before it is told first
                break
            if not part:  # close_notify; what came before it is told first
                self.ended = True
                return b"".join(parts)
            if not parts and not incoming.pending:  # a small response, as most are
                return part
            parts.append(part)
        return b"".join(parts) or None

    def _check_not_renegotiating(self) -> None:
        """Reading has made OpenSSL answer something. Raises OSError.

        In TLS 1.3 that is an update of keys, which goes out with what is sent next (RFC 8446 section 4.6.3).
        In TLS 1.2 it is the alert no_renegotiation (RFC 5246 section 7.2.2).
        """
        if self._tls.version() == "TLSv1.2":
            with contextlib.suppress(OSError):
                self.send(self._outgoing.read())
            raise OSError(RENEGOTIATION, "the upstream wants to renegotiate TLS")

    def encode(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()

    def end(self) -> None:
        self._notify()
        super().end()

    def close(self) -> None:
        """RFC 8446 section 6.1: an end is told, so that the upstream can tell it from a cut."""
        self._notify()
        super().close()

    def _notify(self) -> None:
        with contextlib.suppress(OSError):  # SSLWantReadError: the upstream's close_notify is not waited for
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self.send(self._outgoing.read())
