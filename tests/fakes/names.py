"""A name server whose responses the test decides: one address for all names, or none, or no response."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Final

A: Final = 1  # RFC 1035 section 3.2.2
HEADER: Final = 12  # bytes
RESPONSE: Final = 0x8180  # with recursion, asked for and available
SERVER_FAILURE: Final = 2
POINTER: Final = 0xC00C  # to the name of the question
TTL: Final = 0  # seconds


class NameServer:
    """Serves a UDP socket. `address`: of all names; empty: SERVFAIL. `hangs`: no response to anything."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.address = address
        self.hangs = False
        self.asked = 0
        self._socket = sock
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                question, asker = self._socket.recvfrom(4096)
            except OSError:
                return
            self.asked += 1
            if not self.hangs:
                self._socket.sendto(self._response(question), asker)

    def _response(self, question: bytes) -> bytes:
        end = question.index(b"\0", HEADER) + 5  # after the name, its type and class
        (kind,) = struct.unpack_from("!H", question, end - 4)
        answer = b""
        if kind == A and self.address:
            answer = struct.pack("!HHHIH", POINTER, A, 1, TTL, 4) + socket.inet_aton(self.address)
        flags = RESPONSE if self.address else RESPONSE | SERVER_FAILURE
        head = question[:2] + struct.pack("!HHHHH", flags, 1, bool(answer), 0, 0)
        return head + question[HEADER:end] + answer

    def close(self) -> None:
        self._socket.close()
