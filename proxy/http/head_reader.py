"""Where the head of a request ends, in bytes that come in any pieces. Pure."""

from __future__ import annotations

import string
from typing import Final

from proxy.http.malformed import MalformedRequest
from proxy.http.message import BARE_LF, END, PART_OF_END

MOST_EMPTY_LINES: Final = 2  # before a request; RFC 9112 section 2.2 wants one ignored
FIRST_BYTES: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789" + string.ascii_letters.encode())  # of a method


class HeadReader:
    """Reads heads, one after another. `buffer` holds bytes behind the last one, or a part of the next."""

    __slots__ = ("_empty_lines", "_searched", "buffer")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self._searched = 0  # where in the buffer to look for the end of a head
        self._empty_lines = 0

    def take(self) -> bytes:
        """All that is in the buffer, which is empty then."""
        taken, self.buffer = bytes(self.buffer), bytearray()
        return taken

    def read(self, data: bytes, most: int) -> tuple[bytes, bytes] | None:
        """The head that ends in `data`, which follows the buffer, and what lies behind it; None if none does.

        `most`: bytes of a head. Raises MalformedRequest; the buffer then holds what there is of the head.
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
            raise MalformedRequest("lines end in CR LF")
        if (len(known) - PART_OF_END if end < 0 else end) > most:
            self._keep(known)
            raise MalformedRequest("the request's head is too large", "too-large")
        if end < 0:
            self._keep(known)
            self._searched = max(0, len(known) - PART_OF_END)
            return None
        self._searched = self._empty_lines = 0
        if known is data and end + 4 == len(data):  # nothing but a head, as most are: no copy
            return data, b""
        self.buffer = bytearray()
        return bytes(known[: end + 4]), bytes(known[end + 4 :])

    def _keep(self, known: bytes | bytearray) -> None:
        if known is not self.buffer:
            self.buffer = bytearray(known)

    def _without_empty_lines(self, known: bytes) -> bytes:
        """What follows them; nothing, if no more than a part of one does. Raises MalformedRequest."""
        self.buffer = bytearray()
        while known and known[0] not in FIRST_BYTES:
            if known == b"\r":
                self.buffer += known
                return b""
            self._empty_lines += 1
            if not known.startswith(b"\r\n") or self._empty_lines > MOST_EMPTY_LINES:
                raise MalformedRequest("a request begins with its method")
            known = known[2:]
        return known
