"""Accepting connections under the control of a server of ours.

`loop.create_server` accepts whatever arrives: a server learns of a connection only after its TLS handshake,
and under uvloop it can't pause. Here the server, a Gate, is asked before each accept(), and knows every
connection from then on. A connection that is not accepted yet waits in the kernel's queue; it takes no file.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from abc import ABC, abstractmethod
from typing import Any, Final

from proxy import tasks
from proxy.sockets.accept_loop import AcceptLoop

PER_TURN: Final = 4  # connections accepted before the event loop reads: what has arrived is seen first
NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})  # of one address of a name, as ::1


class Gate(ABC):
    """A server that decides which connections are accepted."""

    takes_plain = False  # whether its protocols, without TLS, need no more than sockets/transport.py has

    @abstractmethod
    def has_room(self) -> bool:
        """Whether the next connection may be accepted. Changes nothing, as there may be none."""

    @abstractmethod
    def admit(self, sock: socket.socket) -> asyncio.Protocol:
        """The protocol of an accepted connection, whose TLS handshake has not begun."""

    @abstractmethod
    def failed(self, protocol: asyncio.Protocol) -> None:
        """Its connection ended before `connection_made`."""

    @abstractmethod
    def out_of_files(self) -> None:
        """A connection could not be accepted, as there is no free file."""


class Acceptor:
    """Accepts connections for a gate, with TLS or without. `options`: of `loop.connect_accepted_socket`.

    Of an asyncio server it has what aiohttp's sites use.
    """

    def __init__(
        self, gate: Gate, listeners: list[socket.socket], backlog: int, options: dict[str, Any]
    ) -> None:
        """Begin to accept. Raises OSError."""
        self._gate = gate
        self._options = options
        self._connecting: set[asyncio.Task[None]] = set()
        self._accepting = AcceptLoop(gate, listeners, backlog, PER_TURN, self._begin)

    async def settle(self, seconds: float) -> None:
        """Stop accepting, and wait until the connections accepted are made; at most `seconds`, for TLS."""
        self._accepting.close()
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=seconds)

    def close(self) -> None:
        """Stop accepting. What has been accepted goes on, but for TLS handshakes."""
        self._accepting.close()
        if self._options.get("ssl"):
            for task in self._connecting:
                task.cancel()

    def renew_tls(self, context: ssl.SSLContext | None) -> None:
        """Use another context for handshakes from now on."""
        self._options = {**self._options, "ssl": context}

    @property
    def sockets(self) -> list[socket.socket]:
        return self._accepting.listeners

    def _begin(self, sock: socket.socket, _address: object) -> None:
        sock.setblocking(False)
        task = tasks.spawn(self._connect(self._gate.admit(sock), sock), "begin a connection")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, protocol: asyncio.Protocol, sock: socket.socket) -> None:
        connected = False
        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: protocol, sock, **self._options)
            connected = True
        except OSError:  # the handshake failed, took too long or was broken off
            pass
        finally:
            if not connected:
                self._gate.failed(protocol)


async def bound(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to the addresses of `host` that this machine has; at least one. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            sockets.append(_bound(family, kind, protocol, address))
        except OSError as error:
            missing = error
            if error.errno not in NOT_HERE:
                break
    else:
        if sockets:
            return sockets
    for sock in sockets:
        sock.close()
    raise missing or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


def _bound(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
