"""A TLS handshake by the loop's callbacks: one future for all of its round trips."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Final

FLIGHT: Final = 16 * 1024  # bytes read at once; most flights of a server are smaller


class Handshake:
    """The client's side, over a non-blocking socket. `incoming`, `outgoing`: the buffers of `tls`."""

    __slots__ = ("_agreed", "_done", "_fd", "_incoming", "_loop", "_outgoing", "_sock", "_tls", "_unsent")

    def __init__(
        self, sock: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._sock, self._fd = sock, sock.fileno()
        self._tls, self._incoming, self._outgoing = tls, incoming, outgoing
        self._unsent = b""
        self._agreed = False  # all that remains is to send our last flight

    async def run(self) -> None:
        """Raises OSError, ssl.SSLError among them. The socket stays open."""
        try:
            self._loop.add_reader(self._fd, self._readable)
            self._advance()
            await self._done
        finally:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        if self._done.done():  # the task that waits for it has not run yet
            return
        try:
            self._receive()
        except Exception as error:  # noqa: BLE001 (raised by `run`)
            self._done.set_exception(error)

    def _writable(self) -> None:
        if self._done.done():
            return
        try:
            self._send()
            if not self._unsent:
                self._loop.remove_writer(self._fd)
        except Exception as error:  # noqa: BLE001 (raised by `run`)
            self._done.set_exception(error)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(FLIGHT)
        except (BlockingIOError, InterruptedError):
            return
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        self._advance()

    def _advance(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._send_alert()
            raise
        else:
            self._agreed = True
        self._unsent += self._outgoing.read()
        self._send()

    def _send(self) -> None:
        """Send what the kernel takes; the rest follows."""
        if self._unsent:
            with contextlib.suppress(BlockingIOError, InterruptedError):
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
        if self._unsent:
            self._loop.add_writer(self._fd, self._writable)
            if self._agreed:  # what comes now is for the connection's user
                self._loop.remove_reader(self._fd)
        elif self._agreed:
            self._done.set_result(None)

    def _send_alert(self) -> None:
        """Say why, as far as the kernel takes it (RFC 8446 section 6.2)."""
        if not self._unsent:  # an alert within a record would be unreadable
            with contextlib.suppress(OSError):
                self._sock.send(self._outgoing.read())
