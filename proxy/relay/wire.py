"""The bytes of an upstream connection: a raw non-blocking socket, with or without TLS.

TLS runs over two memory buffers: one read from the socket brings several records, where an SSLSocket needs
two reads for each; and encrypted data that the kernel did not take can be sent later, in any pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from typing import Final

from proxy.relay.failures import Failure
from proxy.relay.handshake import Handshake
from proxy.relay.tls_sessions import Session, Sessions

READ_SIZE: Final = 65536  # bytes
RECORD: Final = 16 * 1024  # bytes; the most that one TLS record carries (RFC 8446 section 5.1)
# All TLS connections read into this buffer, one at a time: seven records, so that a payload stays just below
# the 128 KiB from which malloc asks the kernel each time.
_ARRIVED: Final = memoryview(bytearray(7 * (RECORD + 22)))


# An upstream that asks to renegotiate TLS 1.2 is refused (RFC 9325 section 3.5 permits that; TLS 1.3 has no
# renegotiation): a client certificate for one path can as well be requested in the handshake.
# No kernel reports this error for an open connection.
RENEGOTIATION: Final = errno.EPROTO


def failure_of(error: OSError) -> Failure:
    """The failure of an exchange whose connection broke with `error` (RFC 8446 section 6.2)."""
    if error.errno == RENEGOTIATION:
        return Failure.RENEGOTIATION
    reason = getattr(
        error, "reason", None
    )  # OpenSSL's name; not all have one, and None is no str when compiled
    if isinstance(error, ssl.SSLError) and "_ALERT_" in (reason or ""):
        return Failure.ALERT
    return Failure.ENDED


class Wire:
    """Plain bytes. `receive` and `send` raise OSError when the connection is broken."""

    __slots__ = ("ended", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.ended = False  # the end of the upstream's data has arrived, perhaps with its last bytes

    @property
    def has_more(self) -> bool:
        """Whether received data is waiting that makes no descriptor readable."""
        return False

    def receive(self) -> bytes | None:
        """The data received; b"" at the end; None if the kernel has no more. Raises OSError."""
        try:
            return self.sock.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return None

    def encode(self, data: bytes) -> bytes:
        """`data` as it is sent over the socket."""
        return data

    def send(self, encoded: bytes) -> int:
        """Hand encoded bytes to the kernel; returns how many it took."""
        try:
            return self.sock.send(encoded)
        except (BlockingIOError, InterruptedError):
            return 0

    def end(self) -> None:
        """End our side. Best effort: the upstream may be gone, or not read."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()


class TLSWire(Wire):
    """The same under TLS. An end without close_notify raises: truncated data must not look complete."""

    __slots__ = ("_error", "_incoming", "_offered", "_outgoing", "_sessions", "_tls", "_verified")

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        server_name: str,
        sessions: Sessions | None = None,
        offered: Session | None = None,
    ) -> None:
        """`sessions`: where the connection's session is kept. `offered`: the one to resume, of these."""
        super().__init__(sock)
        self._error: OSError | None = None  # raised once the data before it has been returned
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_hostname=server_name,
            session=None if offered is None else offered.session,
        )
        self._offered = offered
        self._sessions = sessions  # None once the first data, or no data, has come
        self._verified = 0.0  # when the upstream's certificate was: boot clock, seconds

    async def handshake(self) -> None:
        """Raises OSError, ssl.SSLError among them."""
        await Handshake(self.sock, self._tls, self._incoming, self._outgoing).run()
        if self._sessions is not None:
            self._verified = self._sessions.agreed(self._tls, self._offered)

    @property
    def has_more(self) -> bool:
        """Data that arrived together with the handshake."""
        return self._incoming.pending > 0

    def receive(self) -> bytes | None:
        """The same; records without data, such as session tickets, are skipped. Raises OSError."""
        if self._sessions is not None:
            return self._receive_first()
        return self._receive()

    def _receive_first(self) -> bytes | None:
        """The first data shows that the connection works: its session is kept, once the data is handled."""
        sessions = self._sessions
        assert sessions is not None
        try:
            data = self._receive()
        except OSError:
            self._sessions = None
            if self._tls.session_reused:
                sessions.failed()
            raise
        if data is not None:
            self._sessions = None
            if data:
                asyncio.get_running_loop().call_soon(sessions.keep, self._tls, self._verified)
        return data

    def _receive(self) -> bytes | None:
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
        """The data of all complete records; None if they carry none; b"" at a close_notify."""
        parts: list[bytes] = []
        incoming = self._incoming
        while incoming.pending or at_end:
            try:
                part = self._tls.read(RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                part = b""  # a close_notify after our own
            except ssl.SSLError as error:
                if not parts:
                    raise
                self._error = error  # the data before it is returned first
                break
            if not part:  # close_notify; the data before it is returned first
                self.ended = True
                return b"".join(parts)
            if not parts and not incoming.pending:  # a small response, as most are
                return part
            parts.append(part)
        return b"".join(parts) or None

    def _check_not_renegotiating(self) -> None:
        """Reading has made OpenSSL produce a reply. Raises OSError if it refuses a renegotiation.

        In TLS 1.3 it is a key update, which is sent with the next data (RFC 8446 section 4.6.3).
        In TLS 1.2 it is the alert no_renegotiation (RFC 5246 section 7.2.2).
        """
        if self._tls.version() == "TLSv1.2":
            with contextlib.suppress(OSError):
                self.send(self._outgoing.read())
            raise OSError(RENEGOTIATION, "the upstream asked to renegotiate TLS")

    def encode(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()

    def end(self) -> None:
        self._notify()
        super().end()

    def close(self) -> None:
        """Send close_notify first, which tells an end from a truncation (RFC 8446 section 6.1)."""
        self._notify()
        super().close()

    def _notify(self) -> None:
        with contextlib.suppress(OSError):  # SSLWantReadError: do not wait for the upstream's close_notify
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self.send(self._outgoing.read())
