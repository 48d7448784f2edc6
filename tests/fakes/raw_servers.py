"""Servers made of plain sockets, each connection in a thread: they say what no library would let them say.

`listening` hands each connection to a function. `RotatingServer` is a token endpoint that rotates refresh
tokens, has no grace, and ends the login when a spent one comes again; the test decides how responses look.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
Handler = Callable[[socket.socket], None]


@contextmanager
def listening(handler: Handler) -> Iterator[int]:
    """Serve each connection by `handler`, in a thread of its own; yields the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=_accept, args=(listener, handler), daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, handler: Handler) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(connection, handler), daemon=True).start()


def _serve(connection: socket.socket, handler: Handler) -> None:
    with connection:
        try:
            handler(connection)
        except OSError:
            return  # the other side has gone


def read_message(connection: socket.socket) -> bytes:
    """A request with its body (by Content-Length); b"" at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return b""
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def response(body: bytes, status: bytes = b"200 OK", *fields: bytes) -> bytes:
    lines = (b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def reset(connection: socket.socket) -> None:
    """End the connection by RST, at once behind what was written."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


Shape = Callable[[dict[str, object]], bytes]  # the tokens -> the response, whole


def plain(tokens: dict[str, object]) -> bytes:
    return response(json.dumps(tokens).encode(), b"200 OK", b"Content-Type: application/json")


@dataclass
class RotatingServer:
    """Refresh tokens R0, R1, …: each is good once. `shape` makes all responses but the first."""

    lifetime: int
    shape: Shape = plain
    refreshes: int = 0
    reused: int = 0
    refusal: bytes = b""  # instead of tokens, once it is set
    _good: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, connection: socket.socket) -> None:
        while message := read_message(connection):
            form = parse_qs(message.partition(b"\r\n\r\n")[2].decode())
            connection.sendall(self._respond(form["refresh_token"][0]))

    def _respond(self, refresh_token: str) -> bytes:
        with self._lock:
            if self.refusal:
                return self.refusal
            if self.reused or refresh_token != f"R{self._good}":
                self.reused += 1
                return response(b'{"error": "invalid_grant"}', b"400 Bad Request")
            self.refreshes += 1
            self._good += 1
            tokens: dict[str, object] = {
                "access_token": f"A{self._good}",
                "token_type": "Bearer",
                "expires_in": self.lifetime,
                "refresh_token": f"R{self._good}",
            }
            return plain(tokens) if self._good == 1 else self.shape(tokens)
