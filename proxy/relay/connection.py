"""A caller's connection as a transport: flow control, deadlines, closing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

from proxy.relay import peer, peer_process
from proxy.relay.context import RelayContext
from proxy.relay.peer_process import Process

if TYPE_CHECKING:
    from proxy.relay.callers import Standing
    from proxy.relay.inbound import Inbound

HIGH_WATER: Final = 65536  # unsent bytes of a response above which the upstream is not read
LINGER: Final = 2.0  # seconds to read on after a response to an unread body, which a reset could destroy
LINGER_BYTES: Final = 2**20  # most bytes to read in that time; above that, reading pauses until it is over
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with zero timeout: the kernel sends RST instead of FIN
FIRST_AT_STOP: Final = (
    5.0  # seconds for a caller that has just connected to send its request, as in Go's net/http
)
IDLE_AT_STOP: Final = (
    1.0  # seconds since the last response: a caller in a series of requests gets its last one
)
CLOSE_SOON: Final = 0.1  # seconds: at the next check but one
NEVER: Final = float("inf")


class ConnectionOwner(Protocol):
    """The owner of all connections (server.py)."""

    context: RelayContext

    def opened(self, connection: Inbound) -> None:
        """A connection has been accepted; it may be refused at once."""
        ...

    def closed(self, connection: Inbound) -> None:
        """A connection has been lost."""
        ...


class Connection(asyncio.Protocol):
    """The base of `Inbound`, without any knowledge of HTTP."""

    __slots__ = (
        "_deadline",
        "_eof",
        "_lingered",
        "_lingering",
        "_patience",
        "_reading",
        "_server",
        "_transport",
        "_unsent",
        "_write",
        "descriptor",
        "is_full",
        "is_tls",
        "standing",
        "time",
    )

    def __init__(self, server: ConnectionOwner) -> None:
        self._server = server
        self._transport = cast("asyncio.Transport", None)
        self.descriptor = -1
        self._write: Callable[[bytes], None] = _nowhere
        self.time: Callable[[], float] = asyncio.get_running_loop().time
        self._reading = True
        self._eof = False  # the caller has ended its side, and all its data has been read
        self._lingering = False  # incoming data is read and discarded
        self._lingered = 0  # bytes
        self.is_full = False
        self.is_tls = False
        self.standing: Standing | None = None
        self._patience = server.context.limits.header_time  # seconds, from the next check on; 0: unchanged
        self._deadline = NEVER  # loop time: for a header, for the next request, or for closing
        self._unsent = 0  # bytes in the write buffer at the last check

    def _use(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write
        self.is_tls = transport.get_extra_info("ssl_object") is not None
        if self.is_tls:  # the event loops' limit is the same without TLS, and eight times as large with it
            self._transport.set_write_buffer_limits(HIGH_WATER)
        sock = transport.get_extra_info("socket")
        self.descriptor = -1 if sock is None else sock.fileno()

    @property
    def local_address(self) -> str:
        """Our IP address on this connection; empty on a unix socket."""
        name = self._transport.get_extra_info("sockname")
        return name[0] if isinstance(name, tuple) else ""

    @property
    def peer_address(self) -> str:
        """The caller's IP address; empty on a unix socket."""
        name = self._transport.get_extra_info("peername")
        return name[0] if isinstance(name, tuple) else ""

    @property
    def peer_name(self) -> str:
        """The caller's IP address, or its user on a unix socket, for the audit log."""
        process = None if self.peer_address else self.process()
        return self.peer_address if process is None else f"uid {process.uid}"

    def certificate_names(self) -> list[tuple[str, str]]:
        certificate = self._transport.get_extra_info("peercert")
        return list(certificate.get("subjectAltName", ())) if certificate else []

    def process(self) -> Process | None:
        return peer_process.of_socket(self.descriptor)

    def read_on(self, *, wanted: bool) -> None:
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def end(self) -> bool:
        if self._transport.can_write_eof():
            self._transport.write_eof()
            return True
        return False

    def abort(self) -> None:
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # it has been closed
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    def _close(self, *, linger: bool) -> None:
        if not linger or self._eof or not self._transport.can_write_eof():
            self._patience = self._server.context.limits.body_stall  # for the caller to read the rest
            self._transport.close()
            return
        self._lingering = True
        self._patience = LINGER
        self._transport.write_eof()
        self.read_on(wanted=True)

    def _unread(self, size: int) -> None:
        self._lingered += size
        if self._lingered > LINGER_BYTES:
            self.read_on(wanted=False)

    def _check_deadline(self, now: float, *, progress: bool) -> None:
        """Between requests, or while closing."""
        if self._patience:
            self._deadline, self._patience = now + self._patience, 0.0
        elif now > self._deadline:
            if self._transport.is_closing():  # the caller does not read
                self.abort()
            else:
                self._close(linger=False)
        elif progress and self._transport.is_closing():
            self._patience = self._server.context.limits.body_stall

    def _end_soon(self, *, is_new: bool) -> None:
        """Close as the process ends, or the listener was removed. `is_new`: no request has come yet.

        A caller that is connecting, or between two requests, may have sent one that is not here yet: it is
        served, if it comes soon. Only a connection that has been idle for longer is closed now, or one whose
        listener was removed.
        """
        if self._lingering or self._transport.is_closing():
            return
        if not self._server.context.draining:
            self._close(linger=False)
            return
        if is_new:
            self._patience = FIRST_AT_STOP
            return
        now = self.time()
        idle_since = now if self._patience else self._deadline - self._server.context.limits.idle
        left = idle_since + IDLE_AT_STOP - now
        if left > 0 or self._has_news:
            self._patience = max(left, CLOSE_SOON)
        else:
            self._close(linger=False)

    @property
    def _has_news(self) -> bool:
        """Whether the beginning of a request, or an end, is about to be read."""
        return not self._lingering and not self._transport.is_closing() and peer.has_news(self.descriptor)


def _nowhere(_data: bytes) -> None:
    """`_write` before there is a connection."""
