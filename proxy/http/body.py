"""The bodies of messages: payload and end (RFC 9112 sections 6 and 7). Pure.

`feed(data)` returns the payload in `data` and the bytes after the body's end. llhttp is not used
here: it does not report where in the data a body ended, and accepts a chunk extension of any length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

import httptools

from proxy.http.fields import close_up
from proxy.http.key_fields import KnownKeys
from proxy.http.malformed import MalformedBody

MAX_LINE: Final = 1024  # bytes of a chunk's size and extension; extensions are not used in practice
MAX_TRAILERS: Final = 16 * 1024  # bytes in all
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_SIZE: Final = re.compile(  # RFC 9112 section 7.1.1 without BWS; 15 digits: 2^60 is enough
    rb"([0-9A-Fa-f]{1,15})(?:;%b(?:=(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
)
_BWS: Final = rb"[ \t]*+"
# Responses may have white space there, as the RFC requires (Apache 1.3 pads sizes), and leading zeros.
# Requests may not: parsers that disagree about either allow request smuggling.
_RESPONSE_SIZE: Final = re.compile(
    rb"0*([0-9A-Fa-f]{1,15})%b(?:;%b%b%b(?:=%b(?:%b|%b)%b)?)*"
    % (_BWS, _BWS, _TOKEN, _BWS, _BWS, _TOKEN, _QUOTED, _BWS)
)
_CRLF: Final = b"\r\n"

# How a head says where its body ends (RFC 9112 section 6.3).
NONE: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
UNTIL_CLOSE: Final = 3


class Body(Protocol):
    """`done` is set with the last byte; `chunked`: whether it is framed in chunks on the wire."""

    done: bool
    chunked: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Returns (payload, bytes after the end). Raises MalformedBody."""
        ...

    def end_of_input(self) -> bool:
        """The connection has ended. Returns whether the body is complete."""
        ...


class Length:
    """A body of a known number of bytes."""

    __slots__ = ("done", "remaining")
    chunked = False

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return data, b""
        payload, rest = (
            (data, b"") if size == self.remaining else (data[: self.remaining], data[self.remaining :])
        )
        self.remaining = 0
        self.done = True
        return payload, rest

    def end_of_input(self) -> bool:
        return self.done


NO_BODY: Final = Length(0)  # shared by all messages without a body: it never changes


class UntilClose:
    """A close-delimited body, as in HTTP/1.0 responses."""

    __slots__ = ("done",)
    chunked = False

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""

    def end_of_input(self) -> bool:
        self.done = True
        return True


class Chunked:
    """A chunked body. `trailers` holds the fields after its last chunk, as a block (fields.py).

    `nominated`: the names of fields that do not pass as trailers: the head's Connection options limit them
    to this hop, or see `keep_from_trailers`. `of_response`: accept the white space in size lines and before
    colons that RFC 9112 tells recipients of a response to accept. `keys`: of callers, which no trailer may
    carry on.
    """

    __slots__ = ("_of_response", "_pending", "_remaining", "_step", "done", "keys", "nominated", "trailers")
    chunked = True

    def __init__(
        self,
        nominated: frozenset[bytes] = frozenset(),
        *,
        of_response: bool = False,
        keys: KnownKeys | None = None,
    ) -> None:
        self.nominated = nominated
        self.keys = keys
        self._of_response = of_response
        self.done = False
        self.trailers = b""
        self._pending = b""  # an incomplete line, or incomplete trailers
        self._remaining = 0  # bytes of the current chunk still to come
        self._step: Callable[[bytes, int, list[bytes]], int] = self._size

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        data, self._pending = self._pending + data, b""
        payload: list[bytes] = []
        position = 0
        while not self.done:
            next_position = self._step(data, position, payload)
            if next_position < 0:
                self._pending = data[position:]
                return b"".join(payload), b""
            position = next_position
        return b"".join(payload), data[position:]

    def end_of_input(self) -> bool:
        return self.done

    # Each step reads at `position` and returns the position of the next one, or -1 if it needs more data.

    def _size(self, data: bytes, position: int, _payload: list[bytes]) -> int:
        end = data.find(_CRLF, position, position + MAX_LINE)
        if end < 0:
            if len(data) - position >= MAX_LINE:
                raise MalformedBody("a chunk's size line is too long")
            _refuse_early(data, position)
            return -1
        size = (_RESPONSE_SIZE if self._of_response else _SIZE).fullmatch(data, position, end)
        if size is None:
            raise MalformedBody("a chunk's size is not a number")
        self._remaining = int(size[1], 16)
        self._step = self._data if self._remaining else self._trailer
        return end + 2

    def _data(self, data: bytes, position: int, payload: list[bytes]) -> int:
        piece = data[position : position + self._remaining]
        if piece:
            payload.append(piece)
            self._remaining -= len(piece)
            position += len(piece)
        if self._remaining == 0:
            self._step = self._data_end
            return position
        return -1 if position == len(data) and not piece else position

    def _data_end(self, data: bytes, position: int, _payload: list[bytes]) -> int:
        found = data[position : position + 2]
        if found == _CRLF:
            self._step = self._size
            return position + 2
        if not _CRLF.startswith(found):
            raise MalformedBody("a chunk is longer than its size")
        return -1

    def _trailer(self, data: bytes, position: int, _payload: list[bytes]) -> int:
        if data.startswith(_CRLF, position):
            self.done = True
            return position + 2
        end = data.find(_CRLF + _CRLF, position, position + MAX_TRAILERS)
        if end < 0:
            if len(data) - position >= MAX_TRAILERS:
                raise MalformedBody("the trailers are too long")
            return -1
        block = _CRLF + data[position:end]
        self.trailers = _checked(close_up(block) if self._of_response else block)
        self.done = True
        return end + 4


def keep_from_trailers(body: Body | None, names: frozenset[bytes]) -> None:
    """Let no trailer field with one of these names (`fields.plain`) pass."""
    if isinstance(body, Chunked):
        body.nominated |= names


def _refuse_early(data: bytes, position: int) -> None:
    """Refuse an impossible first byte of a size at once, not at the end of its line. Raises MalformedBody."""
    if position < len(data) and data[position] not in b"0123456789abcdefABCDEF":
        raise MalformedBody("a chunk's size is not a number")


def _checked(block: bytes) -> bytes:
    """Trailers, checked by llhttp as the fields of a request. Raises MalformedBody."""
    try:
        httptools.HttpRequestParser(object()).feed_data(b"GET / HTTP/1.1" + block + _CRLF + _CRLF)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        raise MalformedBody("the trailers are malformed") from error
    return block


def encode_chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)
