"""A caller's connection without TLS: of an asyncio transport, what relay/connection.py uses.

Differences: it never raises for a connection that has ended, reads nothing after an end of the peer, and
sends at once what the kernel takes. Its socket is closed one turn after it has ended, after
`connection_lost`, so that until then no other connection has its number.

OPEN ──write_eof──► ENDING ──all sent──► ENDED
  └──────────────close─┴──────────────────┴──► CLOSING ──all sent──► CLOSED     abort, errors ──► CLOSED
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final

from proxy.sockets.readiness import READ, WRITE, Readiness, Watched

FIRST_READ: Final = 16_384  # bytes: more than a usual head, and memory is not shrunk by much afterwards
LARGE_READ: Final = 65_536  # bytes, after a read that was filled; beyond 128 KiB malloc asks the kernel
HIGH_WATER: Final = 65_536  # unsent bytes above which the protocol is asked to pause, as in asyncio
LOW_WATER: Final = 16_384  # and below which to resume

OPEN: Final = 0
ENDING: Final = 1  # our side ends once all is sent
ENDED: Final = 2  # our side has ended
CLOSING: Final = 3  # nothing more is read; it closes once all is sent
CLOSED: Final = 4

_NO_WAIT: Final = int(socket.MSG_DONTWAIT)  # so the socket needs no system call that makes it non-blocking


class PlainTransport(Watched):
    __slots__ = (
        "_at_end",
        "_error",
        "_events",
        "_is_full",
        "_number",
        "_own",
        "_peer",
        "_protocol",
        "_readiness",
        "_size",
        "_socket",
        "_state",
        "_unsent",
        "_wants",
    )

    def __init__(self, sock: socket.socket, peer: Any, readiness: Readiness) -> None:
        """`peer`: its address as of accept()."""
        self._socket = sock
        self._number: int = sock.fileno()
        self._peer = peer
        self._own: Any = None  # its own address
        self._readiness = readiness
        self._protocol: asyncio.Protocol | None = None
        self._state: int = OPEN
        self._events: int = READ  # watched for
        self._wants = True  # reading is not paused
        self._at_end = False  # of what the peer sends
        self._size: int = FIRST_READ  # of the next read
        self._unsent = bytearray()
        self._is_full = False  # the protocol was asked to pause
        self._error: Exception | None = None  # that has closed it

    def begin(self, protocol: asyncio.Protocol) -> None:
        """Raises OSError, before anything was done."""
        self._readiness.begin(self._number, self)
        self._protocol = protocol
        protocol.connection_made(self)  # type: ignore[arg-type]  # of asyncio's, only what is used

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """As of asyncio: socket, peername, sockname."""
        if name == "socket":
            return self._socket
        if name == "peername":
            return self._peer
        if name == "sockname":
            if self._own is None:  # asked for by each request
                with contextlib.suppress(OSError):  # closed
                    self._own = self._socket.getsockname()
            return self._own
        return default

    # -- writing

    def write(self, data: bytes) -> None:
        if self._state != OPEN or not data:
            return
        if not self._unsent:
            sent = self._send(data)
            if sent == len(data) or sent < 0:
                return
            self._unsent += memoryview(data)[sent:]
            self._watch()
        else:
            self._unsent += data
        if not self._is_full and len(self._unsent) > HIGH_WATER:
            self._is_full = True
            self._reader().pause_writing()

    def _send(self, data: bytes | bytearray) -> int:
        """The bytes that were sent; -1: the connection is lost."""
        try:
            return self._socket.send(data, _NO_WAIT)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._end(error)
            return -1

    def _flush(self) -> None:
        sent = self._send(self._unsent)
        if sent < 0:
            return
        del self._unsent[:sent]
        if self._is_full and len(self._unsent) <= LOW_WATER:
            self._is_full = False
            self._reader().resume_writing()
        if self._unsent:
            return
        if self._state == CLOSING:
            self._end(None)
            return
        if self._state == ENDING:
            self._shut()
        self._watch()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._state != OPEN:
            return
        self._state = ENDING
        if not self._unsent:
            self._shut()

    def _shut(self) -> None:
        self._state = ENDED
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:  # it has been reset
            self._end(error)

    # -- reading

    def ready(self, events: int) -> None:
        if self._unsent and self._state != CLOSED and events & ~READ:
            self._flush()
        if self._events & READ and events & ~WRITE and self._state != CLOSED:
            self._read()

    def _read(self) -> None:
        size = self._size
        try:
            data = self._socket.recv(size, _NO_WAIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self._size = LARGE_READ if len(data) == size else FIRST_READ
            self._reader().data_received(data)
            return
        self._at_end = True
        self._watch()
        if not self._reader().eof_received():
            self.close()

    def pause_reading(self) -> None:
        self._wants = False
        self._watch()

    def resume_reading(self) -> None:
        self._wants = True
        self._watch()

    def _watch(self) -> None:
        """Watch for what is waited for."""
        if self._state == CLOSED:
            return
        events = WRITE if self._unsent else 0
        if self._wants and not self._at_end and self._state != CLOSING:
            events |= READ
        if events != self._events:
            before, self._events = self._events, events
            self._readiness.change(self._number, before, events)

    # -- the end

    def is_closing(self) -> bool:
        return self._state >= CLOSING

    def close(self) -> None:
        """Close once all is sent."""
        if not self._unsent:
            self._end(None)
            return
        self._state = CLOSING
        self._watch()

    def abort(self) -> None:
        """Close now."""
        self._end(None)

    def failed(self) -> None:
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._state == CLOSED:
            return
        self._state = CLOSED
        self._error = error
        self._unsent = bytearray()
        self._readiness.end(self._number, self)

    def ended(self) -> None:
        protocol, self._protocol = self._reader(), None
        error, self._error = self._error, None  # its traceback holds this transport, and the data unsent
        try:
            protocol.connection_lost(error)
        finally:
            self._socket.close()

    def _reader(self) -> asyncio.Protocol:
        assert self._protocol is not None
        return self._protocol
