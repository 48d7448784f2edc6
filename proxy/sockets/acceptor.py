"""Accepts the connections of listening sockets without TLS, as many in a turn as there are."""

from __future__ import annotations

import socket
from typing import Final

from proxy.accept import Gate
from proxy.sockets.accept_loop import AcceptLoop
from proxy.sockets.readiness import Readiness
from proxy.sockets.transport import PlainTransport

PER_TURN: Final = 64  # connections accepted before what has arrived is read: callers in the queue wait unseen


class PlainAcceptor:
    """Of an asyncio server it has what aiohttp's sites use."""

    def __init__(self, gate: Gate, listeners: list[socket.socket], backlog: int) -> None:
        """Begin to accept. Raises OSError."""
        self._gate = gate
        self._readiness = Readiness()
        for listener in listeners:
            if listener.family != socket.AF_UNIX:
                # accepted sockets inherit it: a chunk must not wait for the acknowledgement of the one before
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepting = AcceptLoop(gate, listeners, backlog, PER_TURN, self._begin)

    @property
    def sockets(self) -> list[socket.socket]:
        return self._accepting.listeners

    def close(self) -> None:
        """Stop accepting. What has been accepted goes on."""
        self._accepting.close()
        self._readiness.retire()

    def _begin(self, sock: socket.socket, address: object) -> None:
        try:
            PlainTransport(sock, address, self._readiness).begin(self._gate.admit(sock))
        except OSError:  # ENOMEM, or too many files are watched
            self._gate.out_of_files()
            sock.close()
