"""Accepts the connections of listening sockets without TLS, as many in a turn as there are."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from proxy.accept import PAUSE, Gate
from proxy.sockets.readiness import Readiness
from proxy.sockets.transport import PlainTransport

PER_TURN: Final = 64  # connections accepted before what has arrived is read: callers in the queue wait unseen


class PlainAcceptor:
    """Of an asyncio server it has what aiohttp's sites use."""

    def __init__(self, gate: Gate, listeners: list[socket.socket], backlog: int) -> None:
        """Begin to accept. Raises OSError."""
        self._gate = gate
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self._readiness = Readiness()
        for listener in listeners:
            listener.setblocking(False)
            if listener.family != socket.AF_UNIX:
                # accepted sockets inherit it: a chunk must not wait for the acknowledgement of the one before
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.listen(backlog)
        for listener in listeners:
            self._resume(listener)

    @property
    def sockets(self) -> list[socket.socket]:
        return self._listeners

    def close(self) -> None:
        """Stop accepting. What has been accepted goes on."""
        for listener in self._listeners:
            if listener.fileno() < 0:
                continue
            self._loop.remove_reader(listener)
            pause = self._pauses.pop(listener, None)
            if pause is not None:
                pause.cancel()
            listener.close()
        self._readiness.retire()

    def _resume(self, listener: socket.socket) -> None:
        self._pauses.pop(listener, None)
        self._loop.add_reader(listener, self._accept, listener)

    def _pause(self, listener: socket.socket) -> None:
        self._loop.remove_reader(listener)
        self._pauses[listener] = self._loop.call_later(PAUSE, self._resume, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(PER_TURN):
            if not self._gate.has_room():
                self._pause(listener)
                return
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:  # it was ended while it was queued
                continue
            except OSError:
                # EMFILE, ENFILE, ENOBUFS, ENOMEM: it stays queued, so the listener stays readable
                self._gate.out_of_files()
                self._pause(listener)
                return
            self._begin(sock, address)

    def _begin(self, sock: socket.socket, address: object) -> None:
        try:
            PlainTransport(sock, address, self._readiness).begin(self._gate.admit(sock))
        except OSError:  # ENOMEM, or too many files are watched
            self._gate.out_of_files()
            sock.close()
