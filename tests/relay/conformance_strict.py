"""A strict reader of HTTP/1.1 messages, written for these tests from RFC 9110 and RFC 9112 alone.

It shares nothing with the proxy: what the proxy sends is judged by somebody who did not learn reading from
it, and once more by llhttp. Where a recipient may be lenient, this one is not: what a lenient upstream would
read in another way than a strict one must never be sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import httptools

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")  # 5.5
TARGET = re.compile(rb"(?:/[\x21\x22\x24-\x7e]*|\*)")  # RFC 9112 sections 3.2.1, 3.2.4: no fragment
STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [\t\x20-\x7e\x80-\xff]*")
SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")  # 2^60 is enough; no extensions: they are not kept
FOR_ONE_HOP = {b"keep-alive", b"proxy-connection", b"te", b"proxy-authorization", b"proxy-authenticate"}
NOT_IN_TRAILERS = {b"content-length", b"transfer-encoding", b"host", b"authorization", b"connection"}


class Malformed(Exception):
    """Not a message of RFC 9112."""


@dataclass(frozen=True)
class Message:
    """`raw` are its bytes as they came."""

    line: bytes
    fields: tuple[tuple[bytes, bytes], ...]  # names in lower case
    head: bytes
    payload: bytes
    trailers: bytes  # lines, each with its CRLF
    chunked: bool
    raw: bytes

    def values(self, name):
        return [value for known, value in self.fields if known == name]

    @property
    def target(self):
        return self.line.split(b" ")[1]

    @property
    def status(self):
        return int(self.line.split(b" ")[1])

    @property
    def in_one_chunk(self):
        """Its bytes as if all of its payload had come at once: the sizes of chunks are not kept."""
        if not self.chunked:
            return self.raw
        chunk = b"%x\r\n%b\r\n" % (len(self.payload), self.payload) if self.payload else b""
        return self.head + chunk + b"0\r\n" + self.trailers + b"\r\n"


def read_request(data):
    """The first request in `data`, or None if there is more to come. Raises Malformed."""
    head, fields, at = _head(data)
    if head is None:
        return None
    method, _, rest = head[0].partition(b" ")
    target, _, version = rest.partition(b" ")
    if not TOKEN.fullmatch(method) or not TARGET.fullmatch(target) or version != b"HTTP/1.1":
        raise Malformed(f"request line {head[0]!r}")
    if len(_values(fields, b"host")) != 1 or len(_values(fields, b"authorization")) != 1:
        raise Malformed("Host or Authorization is not there once")
    _check_one_hop(fields)
    message = _body(data, head[0], fields, at, _framing(fields))
    if message is not None:
        _ask_llhttp(message, httptools.HttpRequestParser)
    return message


def read_answer(data, method, *, ended=False):
    """The first answer in `data`, to `method`. `ended`: the connection was closed in an orderly way."""
    head, fields, at = _head(data)
    if head is None:
        return None
    status = STATUS.fullmatch(head[0])
    if not status:
        raise Malformed(f"status line {head[0]!r}")
    framing = _framing(fields)
    if method == b"HEAD" or status[1] in {b"204", b"304"} or status[1].startswith(b"1"):
        framing = 0
    elif framing is None:  # RFC 9112 section 6.3: it ends with the connection
        if _values(fields, b"connection") != [b"close"]:
            raise Malformed("nothing says where it ends")
        return _message(data, head[0], fields, at, data[at:], len(data)) if ended else None
    return _body(data, head[0], fields, at, framing)


def _head(data):
    end = data.find(b"\r\n\r\n")
    if re.search(rb"(?<!\r)\n|\r(?!\n|$)", data if end < 0 else data[:end]):
        raise Malformed("a bare CR or LF")
    if end < 0:
        return None, None, 0
    line, *lines = data[:end].split(b"\r\n")
    return [line], tuple(_field(one) for one in lines), end + 4


def _field(line):
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
        raise Malformed(f"field {line!r}")
    return name.lower(), value


def _values(fields, name):
    return [value for known, value in fields if known == name]


def _check_one_hop(fields):
    names = {name for name, _ in fields}
    upgrade = [(name, value) for name, value in fields if name in {b"connection", b"upgrade"}]
    if names & FOR_ONE_HOP or upgrade not in ([], [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]):
        raise Malformed("fields of another hop")


def _framing(fields):
    """A length, "chunked", or None."""
    lengths, codings = _values(fields, b"content-length"), _values(fields, b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Malformed("framed twice")
    if codings:
        if codings != [b"chunked"]:
            raise Malformed(f"coding {codings!r}")
        return "chunked"
    if not lengths:
        return None
    if not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise Malformed(f"length {lengths!r}")
    return int(lengths[0])


def _body(data, line, fields, at, framing):
    if framing == "chunked":
        return _chunks(data, line, fields, at)
    end = at + (framing or 0)
    return _message(data, line, fields, at, data[at:end], end) if len(data) >= end else None


def _message(data, line, fields, at, payload, end, trailers=None):
    return Message(line, fields, data[:at], payload, trailers or b"", trailers is not None, data[:end])


def _chunks(data, line, fields, start):
    at, payload = start, []
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        if not SIZE.fullmatch(data[at:end]):
            raise Malformed(f"chunk size {data[at:end]!r}")
        size, at = int(data[at:end], 16), end + 2
        if size == 0:
            break
        if len(data) < at + size + 2:
            return None
        payload.append(data[at : at + size])
        at += size + 2
        if data[at - 2 : at] != b"\r\n":
            raise Malformed("a chunk is longer than it said")
    return _trailers(data, line, fields, start, b"".join(payload), at)


def _trailers(data, line, fields, start, payload, at):
    if data.startswith(b"\r\n", at):
        return _message(data, line, fields, start, payload, at + 2, b"")
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        return None
    trailers = data[at : end + 2]
    for one in trailers.split(b"\r\n")[:-1]:
        name = _field(one)[0]
        if name in NOT_IN_TRAILERS | FOR_ONE_HOP:
            raise Malformed(f"{name!r} in trailers")
    return _message(data, line, fields, start, payload, end + 4, trailers)


class _Heard:
    """What llhttp hears."""

    def __init__(self):
        self.target, self.payload, self.messages = b"", b"", 0

    def on_url(self, url):
        self.target += url

    def on_body(self, body):
        self.payload += body

    def on_message_complete(self):
        self.messages += 1


def _ask_llhttp(message, parser):
    heard = _Heard()
    judge = parser(heard)
    try:
        judge.feed_data(message.raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise Malformed("llhttp refuses it") from error
    if (heard.messages, heard.target, heard.payload) != (1, message.target, message.payload):
        raise Malformed("llhttp reads something else")
