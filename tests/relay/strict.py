"""A parser of HTTP/1.1 that shares no code with the relay's: to the letter of RFC 9112, slow and strict.

It parses the relay's output again, as a careful upstream would. It is written with `partition` and sets only,
so that it can't repeat a mistake in one of the relay's regular expressions.
"""

from __future__ import annotations

import contextlib
import string
from dataclasses import dataclass, field

import httptools

CRLF = b"\r\n"
TOKEN = frozenset(b"!#$%&'*+-.^_`|~" + (string.ascii_letters + string.digits).encode())
DIGITS = frozenset(string.digits.encode())
HEX = frozenset(string.hexdigits.encode())
TARGET = frozenset(range(0x21, 0x7F))
VALUE = frozenset([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
BODILESS = frozenset({204, 304})
CONTROL_IN_EXTENSION = frozenset(range(0x20)) - {9} | {0x7F}


class Malformed(Exception):
    """Bytes that no sender of HTTP/1.1 may send."""


class Incomplete(Exception):
    """Bytes that may still become a message."""


@dataclass
class Message:
    start: tuple[bytes, ...]  # the three parts of the first line
    lines: list[bytes]  # the fields
    body: bytes = b""
    trailers: list[bytes] = field(default_factory=list)
    until_close: bool = False
    raw: bytes = field(default=b"", compare=False)

    @property
    def told(self) -> tuple[bytes, bytes, bytes]:
        """The parts of a request that a server acts on."""
        return self.start[0], self.start[1], self.body

    @property
    def status(self) -> int:
        return int(self.start[1])

    def values(self, name: bytes) -> list[bytes]:
        return [v.strip(b" \t") for n, _, v in (ln.partition(b":") for ln in self.lines) if n.lower() == name]

    @property
    def closes(self) -> bool:
        options = b",".join(self.values(b"connection")).lower().split(b",")
        return b"HTTP/1.0" in self.start or b"close" in [option.strip(b" \t") for option in options]


def demand(truth: object, what: str) -> None:
    if not truth:
        raise Malformed(what)


def read_request(data: bytes, *, plain: bool = False) -> tuple[Message, bytes]:
    """The first request in `data`, and the bytes after it. `plain`: as a proxy writes it."""
    line, lines, rest = _head(data)
    parts = tuple(line.split(b" "))
    demand(len(parts) == 3, "request line")
    method, target, version = parts
    demand(method and TOKEN.issuperset(method), "method")
    demand(target and TARGET.issuperset(target), "target")
    message = Message(parts, lines)
    _check_version(version)
    demand(len(message.values(b"host")) in ({0, 1} if version == b"HTTP/1.0" else {1}), "Host")
    return _with_body(message, data, rest, otherwise=0, plain=plain)


def read_answer(
    data: bytes, method: bytes, *, forgiving: bool = False, plain: bool = False
) -> tuple[Message, bytes]:
    """The first response in `data`, to a request with this method; a 1xx counts as a response.

    `forgiving`: no body if the status forbids one, despite the fields (RFC 9112 section 6.3, the first rule).
    """
    line, lines, rest = _head(data, response=True)
    parts = (*line.split(b" ", 2), b"")[:3]
    demand(len(parts) == 3, "status line")
    version, status, reason = parts
    demand(len(status) == 3 and DIGITS.issuperset(status) and b"100" <= status <= b"999", "status")
    demand(VALUE.issuperset(reason), "reason")
    _check_version(version)
    message = Message(parts, lines)
    if message.status < 200 or message.status in BODILESS or method == b"HEAD":
        _length(message, version)
        if not forgiving and (message.status < 200 or message.status == 204):
            demand(set(message.values(b"content-length")) <= {b"0"}, "a length where no body can be")
            demand(not message.values(b"transfer-encoding"), "a coding where no body can be")
        message.raw = data[: len(data) - len(rest)]
        return message, rest
    return _with_body(message, data, rest, otherwise=None, plain=plain)


def _head(data: bytes, *, response: bool = False) -> tuple[bytes, list[bytes], bytes]:
    """In a response, white space before a colon is removed (RFC 9112 section 5.1)."""
    head, end, rest = data.partition(CRLF + CRLF)
    if not end:
        raise Incomplete
    line, *lines = head.split(CRLF)
    lines = [_closed_up(field_line) for field_line in lines] if response else lines
    _check_lines(lines)
    return line, lines, rest


def _closed_up(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    return name.rstrip(b" \t") + colon + value


def _check_version(version: bytes) -> None:
    demand(version in {b"HTTP/1.0", b"HTTP/1.1"}, "version")


def _check_lines(lines: list[bytes]) -> None:
    for line in lines:
        name, colon, value = line.partition(b":")
        demand(colon and name and TOKEN.issuperset(name), "field name")
        demand(VALUE.issuperset(value), "field value")


def _length(message: Message, version: bytes) -> int | str | None:
    """RFC 9112 section 6.3; two lengths are refused, even if they are equal."""
    lengths, codings = message.values(b"content-length"), message.values(b"transfer-encoding")
    if codings:
        demand([coding.lower() for coding in codings] == [b"chunked"], "coding")
        demand(not lengths and version == b"HTTP/1.1", "two framings")
        return "chunked"
    if not lengths:
        return None
    demand(len(lengths) == 1 and lengths[0] and DIGITS.issuperset(lengths[0]), "length")
    demand(len(lengths[0]) <= 1000, "length")
    return int(lengths[0])


def _with_body(
    message: Message, data: bytes, rest: bytes, *, otherwise: int | None, plain: bool
) -> tuple[Message, bytes]:
    length = _length(message, b"HTTP/1.0" if b"HTTP/1.0" in message.start else b"HTTP/1.1")
    demand(
        not plain or isinstance(length, str) or len(b"".join(message.values(b"content-length"))) <= 18,
        "length",
    )
    if length is None:
        length = otherwise
    if length is None:
        message.body, message.until_close, rest = rest, True, b""
    elif length == "chunked":
        message.body, message.trailers, rest = read_chunks(rest, plain=plain, response=otherwise is None)
    else:
        assert isinstance(length, int)
        if len(rest) < length:
            raise Incomplete
        message.body, rest = rest[:length], rest[length:]
    message.raw = data[: len(data) - len(rest)]
    return message, rest


def read_chunks(
    data: bytes, *, plain: bool = False, response: bool = False
) -> tuple[bytes, list[bytes], bytes]:
    """RFC 9112 section 7.1: (payload, trailer lines, bytes after). `response`: white space is allowed."""
    payload = b""
    while True:
        line, end, data = data.partition(CRLF)
        if not end:
            raise Incomplete
        digits, semicolon, extension = line.partition(b";")
        digits = digits.rstrip(b" \t") if response else digits
        demand(not plain or (not semicolon and len(digits) <= 15), "plain chunk size")
        demand(digits and HEX.issuperset(digits), "chunk size")
        demand(CONTROL_IN_EXTENSION.isdisjoint(extension), "chunk extension")
        size = int(digits, 16)
        if size == 0:
            break
        if len(data) < size + 2:
            demand(CRLF.startswith(data[size:]), "end of a chunk")
            raise Incomplete
        demand(data[size : size + 2] == CRLF, "end of a chunk")
        payload, data = payload + data[:size], data[size + 2 :]
    if data.startswith(CRLF):
        return payload, [], data[2:]
    lines, end, rest = data.partition(CRLF + CRLF)
    if not end:
        raise Incomplete
    trailers = [_closed_up(line) if response else line for line in lines.split(CRLF)]
    _check_lines(trailers)
    return payload, trailers, rest


def requests_in(data: bytes, *, empty_lines: int = 0) -> tuple[list[Message], Exception | None]:
    """All requests of a connection, and the error that ended them; up to `empty_lines` before each."""
    found: list[Message] = []
    while data:
        for _ in range(empty_lines):
            data = data.removeprefix(CRLF)
        try:
            message, data = read_request(data)
        except (Malformed, Incomplete) as end:
            return found, end
        found.append(message)
        if message.closes:
            break
    return found, None


class _Llhttp:
    """The messages that llhttp parses, in its strict mode."""

    def __init__(self) -> None:
        self.messages: list[list[bytes]] = []
        self.complete = 0

    def on_message_begin(self) -> None:
        self.messages.append([b"", b""])

    def on_url(self, part: bytes) -> None:
        self.messages[-1][0] += part

    def on_body(self, part: bytes) -> None:
        self.messages[-1][1] += part

    def on_message_complete(self) -> None:
        self.complete += 1


def llhttp_requests(data: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], bool]:
    """(method, target, body) of each request in `data`, and whether the last is complete. Raises."""
    account = _Llhttp()
    parser = httptools.HttpRequestParser(account)
    with contextlib.suppress(httptools.HttpParserUpgrade):  # nothing follows it
        parser.feed_data(data)
    method = parser.get_method()
    return [(method, target, body) for target, body in account.messages], _all_complete(account)


def llhttp_answers(data: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """(status, body) of each response in `data`, and whether the last is complete. Raises."""
    account = _Llhttp()
    parser = httptools.HttpResponseParser(account)
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(data)
    return [(parser.get_status_code(), body) for _, body in account.messages], _all_complete(account)


def _all_complete(account: _Llhttp) -> bool:
    return account.complete == len(account.messages)
