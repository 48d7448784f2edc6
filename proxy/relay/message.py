"""The heads of messages: bytes up to the empty line -> RequestHead, ResponseHead. Pure.

llhttp (httptools) is the only reader of a head, in its strict mode. What it lets through and a proxy must
not (RFC 9112 sections 2, 3.2, 6.1; RFC 9110 section 7.2) is judged here, so that no two readers can
understand one message differently. A head is given whole: where it ends, no byte of a body was looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import httptools

from proxy.relay import answer
from proxy.relay.answer import Refusal
from proxy.relay.body import Body, Chunked, Length, UntilClose

Field = tuple[bytes, bytes, bytes]  # name in lower case, name and value as they came

END: Final = b"\r\n\r\n"
NO_BODY_STATUSES: Final = frozenset({204, 304})  # RFC 9110 section 6.4.1, with HEAD and 1xx
IDEMPOTENT: Final = frozenset(
    {b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH"}
)
NOT_HTTP: Final = frozenset({b"PRI", b"SOURCE"})  # llhttp knows them for HTTP/2 and ICE
# The fields that decide something here; all others pass unseen.
INDEXED: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"expect",
        b"upgrade",
        b"via",
        b"origin",
        b"sec-fetch-site",
        b"sec-fetch-mode",
    }
)
_REQUEST_LINE: Final = re.compile(rb"[A-Z-]+ [^\x00-\x20\x7f]+ HTTP/1\.([01])\r\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?)\r\n")


class MalformedAnswer(Exception):
    """An upstream's answer can't be relayed: malformed, ambiguous, or over a limit."""


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bytes of a head and of one field (name and value), and number of fields."""

    header_size: int
    field_size: int
    fields: int


class RequestHead:
    """A request's head; llhttp fills in the target and the fields while it reads."""

    __slots__ = ("body", "fields", "http10", "index", "keep_alive", "method", "target")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.http10 = False
        self.fields: list[Field] = []
        self.index: dict[bytes, list[bytes]] = {}  # values of the INDEXED fields
        self.body: Body | None = None
        self.keep_alive = True

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        self.fields.append((key, name, value))
        if key in INDEXED:
            self.index.setdefault(key, []).append(value.strip(b" \t"))  # llhttp leaves what trails

    @property
    def is_websocket(self) -> bool:
        return any(b"websocket" in value.lower() for value in self.index.get(b"upgrade", ()))


class ResponseHead:
    """An answer's head; llhttp fills in the fields while it reads."""

    __slots__ = ("body", "fields", "index", "keep_alive", "status", "status_line")

    def __init__(self) -> None:
        self.status = 0
        self.status_line = b""  # from the status code on, as it came
        self.fields: list[Field] = []
        self.index: dict[bytes, list[bytes]] = {}
        self.body: Body | None = None
        self.keep_alive = True

    on_header = RequestHead.on_header


def read_request(data: bytes, limits: HeadLimits) -> RequestHead:
    """Read a request's head. Raises Refusal: 400, 431 or 501; the connection must then be closed."""
    head = RequestHead()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # it stops at the head's end for any Upgrade and for CONNECT; there is nothing behind it here
    except httptools.HttpParserInvalidMethodError as error:
        raise Refusal(answer.METHOD_UNKNOWN, "this method is not known here") from error
    except httptools.HttpParserError as error:
        raise Refusal(answer.BAD_REQUEST, "the request's head is malformed") from error
    if _exceeds(head.fields, len(data), limits):
        raise Refusal(answer.HEADER_TOO_LARGE, "a header field is too large, or there are too many")
    head.method = parser.get_method()
    if head.method in NOT_HTTP:
        raise Refusal(answer.METHOD_UNKNOWN, "this method is not known here")
    line = _REQUEST_LINE.match(data)
    if line is None:
        raise Refusal(answer.BAD_REQUEST, "the request line must be: METHOD target HTTP/1.1")
    head.http10 = line[1] == b"0"
    _check_host(head.index.get(b"host"), http10=head.http10)
    head.body = _request_body(head.index, http10=head.http10)
    head.keep_alive = _keeps_alive(head.index, http10=head.http10)
    return head


def _exceeds(fields: list[Field], size: int, limits: HeadLimits) -> bool:
    if len(fields) > limits.fields:
        return True
    if size <= limits.field_size:  # the whole head is smaller than one field may be
        return False
    return any(len(name) + len(value) > limits.field_size for _, name, value in fields)


def _check_host(hosts: list[bytes] | None, *, http10: bool) -> None:
    """RFC 9112 section 3.2: exactly one, but HTTP/1.0 may leave it out."""
    if hosts is None:
        if http10:
            return
        raise Refusal(answer.BAD_REQUEST, "a request must carry a Host field")
    if len(hosts) > 1:
        raise Refusal(answer.BAD_REQUEST, "a request must carry one Host field only")


def _request_body(index: dict[bytes, list[bytes]], *, http10: bool) -> Body | None:
    """RFC 9112 section 6.3. llhttp has refused both framings at once, and lengths that are not digits."""
    encodings = index.get(b"transfer-encoding")
    if encodings is not None:
        if http10 or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise Refusal(answer.BAD_REQUEST, "Transfer-Encoding must be just: chunked")
        return Chunked()
    lengths = index.get(b"content-length")
    if lengths is None:
        return None
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise Refusal(answer.BAD_REQUEST, "Content-Length must be one number")
    return Length(int(lengths[0]))


def _keeps_alive(index: dict[bytes, list[bytes]], *, http10: bool) -> bool:
    """RFC 9112 section 9.3. A caller of HTTP/1.0 gets one answer a connection."""
    options = index.get(b"connection")
    if options is None:
        return not http10
    return not http10 and b"close" not in b",".join(options).lower().replace(b" ", b"").split(b",")


def read_response(data: bytes, method: bytes, limits: HeadLimits) -> ResponseHead:
    """Read the head of an answer to `method`. Raises MalformedAnswer."""
    head = ResponseHead()
    parser = httptools.HttpResponseParser(head)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise MalformedAnswer("its head is malformed") from error
    line = _STATUS_LINE.match(data)
    if line is None or _exceeds(head.fields, len(data), limits):
        raise MalformedAnswer("its head is malformed or too large")
    http10 = line[1] == b"0"
    head.status_line = line[2]
    head.status = status = parser.get_status_code()
    head.body = _response_body(head.index, status, method, http10=http10)
    head.keep_alive = not isinstance(head.body, UntilClose) and _keeps_alive(head.index, http10=http10)
    return head


def _response_body(
    index: dict[bytes, list[bytes]], status: int, method: bytes, *, http10: bool
) -> Body | None:
    """RFC 9112 section 6.3: chunked, counted, or until the connection ends, unless there is none at all."""
    lengths, encodings = index.get(b"content-length", []), index.get(b"transfer-encoding")
    if len(lengths) > 1 or not all(length.isdigit() for length in lengths):
        raise MalformedAnswer("its Content-Length is not one number")
    if encodings is not None and (
        http10 or lengths or len(encodings) > 1 or encodings[0].lower() != b"chunked"
    ):
        raise MalformedAnswer("its Transfer-Encoding is not just chunked")
    if method == b"HEAD" or status in NO_BODY_STATUSES or status < 200:
        return None
    if encodings is not None:
        return Chunked()
    return Length(int(lengths[0])) if lengths else UntilClose()
