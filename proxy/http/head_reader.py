"""Finds the end of a request's head in bytes that arrive in any pieces. Pure."""

from __future__ import annotations

import string
from typing import Final

from proxy.http.malformed import MalformedRequest
from proxy.http.message import BARE_LF, END, PART_OF_END

MOST_EMPTY_LINES: Final = 2  # ignored before a request; RFC 9112 section 2.2 asks for at least one
FIRST_BYTES: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789" + string.ascii_letters.encode())  # of a method


class HeadReader:
    """Reads heads, one after another. `buffer` holds bytes after the last one, or a part of the next."""

    __slots__ = ("_empty_lines", "_searched", "buffer")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self._searched = 0  # where in the buffer to look for the end of a head
        self._empty_lines = 0

    def take(self) -> bytes:
        """Empty the buffer, and return its bytes."""
        taken, self.buffer = bytes(self.buffer), bytearray()
        return taken

    def read(self, data: bytes, most: int) -> tuple[bytes, bytes] | None:
        """Returns (head, bytes after it) if `data`, which follows the buffer, ends a head; else None.

        `most`: bytes of a head. Raises MalformedRequest; the buffer then holds the part received.
        """
        known: bytes | bytearray = data
        if self.buffer:
            self.buffer += data
            known = self.buffer
        if known[0] not in FIRST_BYTES:
            known = self._without_empty_lines(bytes(known))
            if not known:
                return None
        end = known.find(END, self._searched)
        if (end < 0 or end > most) and BARE_LF.search(known, self._searched, most):
            self._keep(known)
            raise MalformedRequest("lines must end in CR LF")
        if (len(known) - PART_OF_END if end < 0 else end) > most:
            self._keep(known)
            raise MalformedRequest("the request's head is too large", "too-large")
        if end < 0:
            self._keep(known)
            self._searched = max(0, len(known) - PART_OF_END)
            return None
        self._searched = self._empty_lines = 0
        if known is data and end + 4 == len(data):  # the usual case, a head alone: no copy
            return data, b""
        self.buffer = bytearray()
        return bytes(known[: end + 4]), bytes(known[end + 4 :])

    def _keep(self, known: bytes | bytearray) -> None:
        if known is not self.buffer:
            self.buffer = bytearray(known)

    def _without_empty_lines(self, known: bytes) -> bytes:
        """The bytes after the empty lines; none if one is still incomplete. Raises MalformedRequest."""
        self.buffer = bytearray()
        while known and known[0] not in FIRST_BYTES:
            if known == b"\r":
                self.buffer += known
                return b""
            self._empty_lines += 1
            if not known.startswith(b"\r\n") or self._empty_lines > MOST_EMPTY_LINES:
                raise MalformedRequest("a request must begin with its method")
            known = known[2:]
        return known
