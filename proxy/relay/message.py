"""The heads of messages: bytes up to the empty line -> RequestHead, ResponseHead -> bytes again. Pure.

llhttp (httptools) judges every head first, in its strict mode; what it accepts has no bare CR or LF, no
folded line and no space before a colon, so that its lines can be told apart at CRLF, and pass on as they
came. What llhttp lets through and a proxy must not (RFC 9112 sections 2, 3.2, 6.1) is refused here. A head
is given whole: where it ends, no byte of a body has been looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import httptools

from proxy.relay import answer, fields, headers
from proxy.relay.answer import Refusal
from proxy.relay.body import Body, Chunked, Length, UntilClose
from proxy.relay.fields import Index

END: Final = b"\r\n\r\n"
NO_BODY_STATUSES: Final = frozenset({204, 304})  # RFC 9110 section 6.4.1, with HEAD and 1xx
IDEMPOTENT: Final = frozenset(
    {b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH"}
)
NOT_HTTP: Final = frozenset(  # llhttp knows them for HTTP/2, ICE and RTSP
    b"PRI SOURCE DESCRIBE ANNOUNCE SETUP PLAY PAUSE TEARDOWN GET_PARAMETER SET_PARAMETER REDIRECT RECORD "
    b"FLUSH".split()
)
_REQUEST_LINE: Final = re.compile(rb"([A-Z-]+) ([^\x00-\x20\x7f]+) HTTP/1\.([01])\r\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) (([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?)\r\n")
MOST_DIGITS: Final = 18  # of a length: leading zeros pass llhttp, and int() raises at 4300 of them
CHUNKED: Final = b"\r\nTransfer-Encoding: chunked"
UPGRADE: Final = b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
CLOSE: Final = b"\r\nConnection: close"
_SILENT: Final = object()  # llhttp tells what it reads to nobody: its verdict is all that is wanted


Framing = Callable[[], Body]  # makes the body that a head announces
# What is known from a block alone: what passes of it, its values, its body, whether the connection is kept.
Judgement = tuple[bytes, Index, Framing | None, bool]


class MalformedAnswer(Exception):
    """An upstream's answer can't be relayed: malformed, ambiguous, or over a limit."""


class HeadLimits(NamedTuple):
    """Bytes of a head and of one field (name and value), and number of fields."""

    header_size: int
    field_size: int
    fields: int


@dataclass(slots=True)
class RequestHead:
    method: bytes
    target: bytes
    http10: bool
    fields: bytes  # a block, see fields.py
    passing: bytes  # what of it goes upstream
    index: Index
    body: Body | None
    keep_alive: bool

    @property
    def wants_websocket(self) -> bool:
        """RFC 6455 section 4.1: GET, and nothing but websocket asked for."""
        values = self.index.get(b"upgrade", [])
        return self.method == b"GET" and not self.http10 and [v.lower() for v in values] == [b"websocket"]


@dataclass(slots=True)
class ResponseHead:
    status: int
    status_line: bytes  # from the status code on, as it came
    passing: bytes  # the fields that go to the caller: a block, see fields.py
    index: Index
    body: Body | None
    keep_alive: bool


def read_request(data: bytes, limits: HeadLimits) -> RequestHead:
    """Read a request's head. Raises Refusal: 400, 431 or 501; the connection must then be closed."""
    try:
        httptools.HttpRequestParser(_SILENT).feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # it stops at the head's end for any Upgrade and for CONNECT; there is nothing behind it here
    except httptools.HttpParserInvalidMethodError as error:
        raise Refusal(answer.METHOD_UNKNOWN, "this method is not known here") from error
    except httptools.HttpParserError as error:
        raise _not_http(data, "the request's head is malformed") from error
    line = _REQUEST_LINE.match(data)
    if line is None or line[1] in NOT_HTTP:
        raise _not_http(data, "the request line must be: METHOD target HTTP/1.1")
    block, http10 = data[line.end() - 2 : -4], line[3] == b"0"
    passing, index, framing, keep_alive = _judge_request(block, limits, http10)
    body = framing and framing()
    return RequestHead(line[1], line[2], http10, block, passing, index, body, keep_alive)


@fields.remembered
def _judge_request(block: bytes, limits: HeadLimits, http10: bool) -> Judgement:
    if _exceeds(block, limits):
        raise Refusal(answer.HEADER_TOO_LARGE, "a header field is too large, or there are too many")
    index = fields.index_of(block, fields.OF_REQUEST)
    _check_host(index.get(b"host"), http10=http10)
    framing, keep_alive = _request_framing(index, http10=http10), _keeps_alive(index, http10=http10)
    return headers.from_caller(block), index, framing, keep_alive


def _not_http(data: bytes, otherwise: str) -> Refusal:
    if data.partition(b" ")[0] in NOT_HTTP:
        return Refusal(answer.METHOD_UNKNOWN, "this method is not known here")
    return Refusal(answer.BAD_REQUEST, otherwise)


def _exceeds(block: bytes, limits: HeadLimits) -> bool:
    if fields.count(block) > limits.fields:
        return True
    return len(block) > limits.field_size and fields.largest(block) > limits.field_size


def _check_host(hosts: list[bytes] | None, *, http10: bool) -> None:
    """RFC 9112 section 3.2: exactly one, but HTTP/1.0 may leave it out."""
    if hosts is None:
        if http10:
            return
        raise Refusal(answer.BAD_REQUEST, "a request must carry a Host field")
    if len(hosts) > 1:
        raise Refusal(answer.BAD_REQUEST, "a request must carry one Host field only")


def _request_framing(index: Index, *, http10: bool) -> Framing | None:
    """RFC 9112 section 6.3. llhttp has refused both framings at once, and lengths that are not digits."""
    encodings = index.get(b"transfer-encoding")
    if encodings is not None:
        if http10 or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise Refusal(answer.BAD_REQUEST, "Transfer-Encoding must be just: chunked")
        return partial(Chunked, headers.nominated(index.get(b"connection", ())))
    lengths = index.get(b"content-length")
    if lengths is None:
        return None
    if not _is_one_number(lengths):
        raise Refusal(answer.BAD_REQUEST, "Content-Length must be one number")
    return partial(Length, int(lengths[0]))


def _is_one_number(lengths: list[bytes]) -> bool:
    return len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= MOST_DIGITS


def _keeps_alive(index: Index, *, http10: bool) -> bool:
    """RFC 9112 section 9.3. A caller of HTTP/1.0 gets one answer a connection."""
    options = index.get(b"connection")
    if options is None:
        return not http10
    return not http10 and b"close" not in b",".join(options).lower().translate(None, b" \t").split(b",")


def read_response(data: bytes, method: bytes, limits: HeadLimits) -> ResponseHead:
    """Read the head of an answer to `method`. Raises MalformedAnswer."""
    try:
        httptools.HttpResponseParser(_SILENT).feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise MalformedAnswer("its head is malformed") from error
    line = _STATUS_LINE.match(data)
    if line is None:
        raise MalformedAnswer("its head is malformed")
    block = data[line.end() - 2 : -4]
    passing, index, framing, keep_alive = _judge_response(block, limits, line[1] == b"0")
    status = int(line[3])
    if status < 200 or status == 204:
        keep_alive = keep_alive and _announces_nothing(framing())
    has_body = method != b"HEAD" and status not in NO_BODY_STATUSES and status >= 200
    body = framing() if framing and has_body else None
    keep_alive = keep_alive and not isinstance(body, UntilClose)
    return ResponseHead(status, line[2], passing, index, body, keep_alive)


def _announces_nothing(body: Body) -> bool:
    """RFC 9110 section 8.6, RFC 9112 section 6.1: a 1xx or 204 has no length, no coding. Raises MalformedAnswer.

    An empty body does no harm, but its last chunk may come late: that connection is not used again.
    """
    if isinstance(body, Length) and not body.done:
        raise MalformedAnswer("it announces a body that it can't have")
    return not body.chunked


@fields.remembered
def _judge_response(block: bytes, limits: HeadLimits, http10: bool) -> Judgement:
    if _exceeds(block, limits):
        raise MalformedAnswer("its head is too large")
    index = fields.index_of(block, fields.OF_RESPONSE)
    framing, keep_alive = _response_framing(index, http10=http10), _keeps_alive(index, http10=http10)
    return headers.from_upstream(block), index, framing, keep_alive


def _response_framing(index: Index, *, http10: bool) -> Framing:
    """RFC 9112 section 6.3: chunked, counted, or until the connection ends."""
    lengths, encodings = index.get(b"content-length"), index.get(b"transfer-encoding")
    if encodings is not None:
        if http10 or lengths or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise MalformedAnswer("its Transfer-Encoding is not just chunked")
        return partial(Chunked, headers.nominated(index.get(b"connection", ())))
    if lengths is None:
        return UntilClose
    if not _is_one_number(lengths):
        raise MalformedAnswer("its Content-Length is not one number")
    return partial(Length, int(lengths[0]))


def to_upstream(
    request: RequestHead, target: bytes, host: bytes, authorization: bytes, via: bytes, *, upgrade: bool
) -> bytes:
    """The head of the request as the upstream gets it; `upgrade` asks for WebSocket anew."""
    return b"%b %b HTTP/1.1\r\nHost: %b%b%b%b\r\nAuthorization: %b\r\nVia: 1.1 %b\r\n\r\n" % (
        request.method,
        target,
        host,
        request.passing,
        CHUNKED if request.body is not None and request.body.chunked else b"",
        UPGRADE if upgrade else b"",
        authorization,
        via,
    )


def to_caller(response: ResponseHead, *, chunked: bool, close: bool) -> bytes:
    """The head of the answer as the caller gets it; `chunked` and `close` are how we frame it."""
    return b"HTTP/1.1 %b%b%b%b\r\n\r\n" % (
        response.status_line,
        response.passing,
        CHUNKED if chunked else b"",
        CLOSE if close else b"",
    )


def switched(response: ResponseHead) -> bytes:
    """The head of a 101: the connection is WebSocket from here on."""
    return b"HTTP/1.1 %b%b%b\r\n\r\n" % (response.status_line, response.passing, UPGRADE)
