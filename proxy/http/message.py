"""The heads of messages: bytes up to the empty line -> RequestHead, ResponseHead. Pure.

head_reader.py finds the empty line of a request, head_writer.py makes heads to send.

The first line is read here. The fields are checked by llhttp (httptools) in its strict mode: a block that it
accepts has no bare CR or LF, no folded line and no space before a colon, so that it can be split at CRLF and
forwarded unchanged. What llhttp accepts and a proxy must not (RFC 9112 sections 2, 3.2, 6.1) is refused here.
A head is passed whole: when its end is searched for, no byte of a body has been parsed.

One app's requests differ little, and so do their responses: the result is cached for the most recent blocks.
Computing it would be most of the cost of an everyday request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import httptools

from proxy.http import cookies, fields, headers
from proxy.http.body import Body, Chunked, Length, UntilClose
from proxy.http.fields import Index
from proxy.http.headers import Options
from proxy.http.key_fields import KnownKeys, PresentedKey, presented, without_keys
from proxy.http.malformed import MalformedRequest, MalformedResponse

END: Final = b"\r\n\r\n"
BARE_LF: Final = re.compile(rb"(?<!\r)\n")  # never valid in a head, so refused before the head is complete
PART_OF_END: Final = 3  # most bytes at the end of an incomplete head that can be the beginning of END
REMEMBERED: Final = 512  # blocks; callers and upstreams send few different ones at a time
LONGEST: Final = 2048  # bytes of a block that is cached: a megabyte in all, whatever anyone sends
NO_BODY_STATUSES: Final = frozenset({204, 304})  # RFC 9110 section 6.4.1, with HEAD and 1xx
METHODS: Final = frozenset(  # the methods that llhttp knows for HTTP
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH "  # RFC 9110 section 9.3, RFC 5789
    b"PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK ACL SEARCH BIND REBIND UNBIND "  # WebDAV and its kin
    b"REPORT MKACTIVITY CHECKOUT MERGE MKCALENDAR "  # versions and calendars
    b"LINK UNLINK PURGE QUERY NOTIFY SUBSCRIBE UNSUBSCRIBE M-SEARCH SOURCE".split()  # caches, UPnP, Icecast
)
IDEMPOTENT: Final = frozenset(  # RFC 9110 section 9.2.2; the safe ones of WebDAV; QUERY
    {b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY"}
)
# Targets as in llhttp's strict mode: no control character, space or non-ASCII byte. The version's last digit
# stays with the fields: both determine the result that is cached.
_REQUEST_LINE: Final = re.compile(rb"([A-Z-]+) ([\x21-\x7e]+) HTTP/1\.(?=[01]\r\n)")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) (([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?)\r\n")
PROTOCOL: Final = b"HTTP/1."  # the beginning of each response
MOST_DIGITS: Final = 18  # of a length: leading zeros pass llhttp, and int() raises at 4300 of them
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ")  # RFC 9110 section 5.6.2
# RFC 9110 section 7.2. Syntax only: allowed names and valid addresses are checked elsewhere (hosts.py).
_HOST: Final = re.compile(
    rb"(?:\[[0-9A-Za-z:.%_~-]+\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)
_NO_CALLBACKS: Final = object()  # only llhttp's verdict matters
NO_KEYS: Final[list[PresentedKey]] = []  # shared, as a parsed head is never changed

Framing = Callable[[], Body]  # makes the body that a head announces


@dataclass(frozen=True, slots=True, eq=False)
class HeadLimits:
    """Bytes of a head and of one field (name and value), and number of fields.

    `keys`: of callers, which are looked for in requests; None without callers.
    """

    header_size: int
    field_size: int
    fields: int
    keys: KnownKeys | None = None


@dataclass(slots=True)
class RequestFields:
    """The parsed fields of a request; shared by all requests with the same block, and never changed."""

    block: bytes  # as they came, see fields.py
    forwarded_fields: bytes  # the part of it that goes upstream
    index: Index
    framing: Framing | None
    keep_alive: bool
    http10: bool
    authority: str | None  # the value of Host
    needs_checks: bool  # it has fields that admission.py checks, besides Host
    has_links: bool  # it has links, which rewrite.py maps
    keys: list[PresentedKey]  # where callers' keys are looked for; empty without callers


@dataclass(slots=True)
class RequestHead:
    method: bytes
    target: bytes
    fields: RequestFields
    forwarded_fields: bytes
    body: Body | None
    authority: str | None  # Host, or that of an absolute-form target (RFC 9112 section 3.2.2)
    path: bytes = b""  # of the target, with its query; set by admission.py
    page: bytes = b""  # the Origin of a page that may read the response; set by web_pages.py

    @property
    def wants_websocket(self) -> bool:
        """RFC 6455 section 4.1: GET, and no other protocol in Upgrade."""
        values = self.fields.index.get(b"upgrade", [])
        return (
            self.method == b"GET"
            and not self.fields.http10
            and [value.lower() for value in values] == [b"websocket"]
        )


@dataclass(slots=True)
class ResponseHead:
    """The head of a response; shared by all responses with the same head, and never changed."""

    status: int
    status_line: bytes  # from the status code on, as it came
    forwarded_fields: bytes  # the fields that go to the caller: a block, see fields.py
    index: Index
    framing: Framing | None
    chunked: bool
    keep_alive: bool
    block: bytes  # the fields as they came
    needs_rewrite: bool  # the caller's head depends on the request: it has links, cookies, NOT_ON_LOCALHOST
    has_links: bool  # it has links or cookies, which rewrite.py maps


def read_request(data: bytes, limits: HeadLimits) -> RequestHead:
    """Read a request's head. Raises MalformedRequest: the connection must then be closed."""
    line = _REQUEST_LINE.match(data)
    if line is None:
        raise _no_request_line(data)
    method, target = line.groups()
    if method not in METHODS:
        raise _no_request_line(data)
    version_and_fields = data[line.end() : -4]
    parse = _parse_request if len(version_and_fields) <= LONGEST else _parse_request.__wrapped__
    known = parse(version_and_fields, limits)
    body = known.framing and known.framing()
    return RequestHead(method, target, known, known.forwarded_fields, body, known.authority)


def _no_request_line(data: bytes) -> MalformedRequest:
    method = _METHOD.match(data)
    if method is not None and method[0].strip() not in METHODS:
        return MalformedRequest("this method is unknown", "method-unknown")
    return MalformedRequest("the request line must be: METHOD target HTTP/1.1")


@lru_cache(maxsize=REMEMBERED)
def _parse_request(version_and_fields: bytes, limits: HeadLimits) -> RequestFields:
    """Argument: the last digit of the version, then the block of fields. Raises MalformedRequest."""
    try:
        httptools.HttpRequestParser(_NO_CALLBACKS).feed_data(b"GET / HTTP/1." + version_and_fields + END)
    except httptools.HttpParserUpgrade:
        pass  # it stops at the head's end for any Upgrade; there is nothing after it here
    except httptools.HttpParserError as error:
        raise MalformedRequest("the request's head is malformed") from error
    http10, block = version_and_fields[:1] == b"0", version_and_fields[1:]
    if _exceeds(block, limits):
        raise MalformedRequest("a header field is too large, or there are too many", "too-large")
    keys = limits.keys
    index, forwarded_fields, options = headers.of_request(block, keys)
    hosts = index.get(b"host")
    _check_host(hosts, http10=http10)
    forwarded_fields = cookies.without_admin(forwarded_fields)
    if keys is not None:
        forwarded_fields = without_keys(forwarded_fields, keys)
    return RequestFields(
        block=block,
        forwarded_fields=forwarded_fields,
        index=index,
        framing=_request_framing(index, options, keys, http10=http10),
        keep_alive=_keeps_alive(options, http10=http10),
        http10=http10,
        authority=hosts[0].decode("latin-1") if hosts else None,
        needs_checks=not index.keys().isdisjoint(headers.NEEDS_CHECKS),
        has_links=not index.keys().isdisjoint(headers.REQUEST_LINKS),
        keys=NO_KEYS if keys is None else presented(index),
    )


def _exceeds(block: bytes, limits: HeadLimits) -> bool:
    if len(block) > limits.fields and fields.count(block) > limits.fields:  # few bytes are few fields
        return True
    return len(block) > limits.field_size and fields.largest(block) > limits.field_size


def _check_host(hosts: list[bytes] | None, *, http10: bool) -> None:
    """RFC 9112 section 3.2: exactly one that is well-formed; HTTP/1.0 may omit it."""
    if hosts is None:
        if http10:
            return
        raise MalformedRequest("a request must carry a Host field")
    if len(hosts) > 1:
        raise MalformedRequest("a request must carry one Host field only")
    if not _HOST.fullmatch(hosts[0]):
        raise MalformedRequest("the Host field must be a host, or host:port")


def _request_framing(
    index: Index, options: Options, keys: KnownKeys | None, *, http10: bool
) -> Framing | None:
    """RFC 9112 section 6.3. llhttp has refused both framings at once, and lengths that are not digits."""
    encodings = index.get(b"transfer-encoding")
    if encodings is not None:
        if http10 or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise MalformedRequest("Transfer-Encoding must be chunked alone")
        return partial(Chunked, options.nominated, keys=keys)
    lengths = index.get(b"content-length")
    if lengths is None:
        return None
    if not _is_one_number(lengths):
        raise MalformedRequest("Content-Length must be one number")
    return partial(Length, int(lengths[0]))


def _is_one_number(lengths: list[bytes]) -> bool:
    return len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= MOST_DIGITS


def _keeps_alive(options: Options, *, http10: bool) -> bool:
    """RFC 9112 section 9.3. A connection over HTTP/1.0 carries one response."""
    return not http10 and not options.close


def read_response(data: bytes, method: bytes, limits: HeadLimits) -> ResponseHead:
    """Read the head of a response to `method`. Raises MalformedResponse."""
    parse = _parse_response if len(data) <= LONGEST else _parse_response.__wrapped__
    return parse(data, method == b"HEAD", limits)


def check_begun(data: bytes, searched: int) -> None:
    """Check that `data` can begin a response's head; `searched` bytes are checked. Raises MalformedResponse.

    An upstream that speaks another protocol, or ends lines with a bare LF, would never end its head.
    """
    if not data.startswith(PROTOCOL[: len(data)]):
        raise MalformedResponse("it is not HTTP/1", "not-http")
    if BARE_LF.search(data, searched):
        raise MalformedResponse("its lines end in LF")


def _accepted(data: bytes) -> bytes:
    """`data` if llhttp accepts it, perhaps after removing white space before colons.

    A proxy removes that from responses (RFC 9112 section 5.1) and refuses it in requests. Raises
    MalformedResponse.
    """
    try:
        httptools.HttpResponseParser(_NO_CALLBACKS).feed_data(data)
    except httptools.HttpParserUpgrade:
        return data  # it stops at the head's end
    except httptools.HttpParserError as error:
        repaired = fields.close_up(data)
        if repaired == data:
            raise _no_response(data) from error
        return _accepted(repaired)
    return data


def _no_response(data: bytes) -> MalformedResponse:
    is_http = data.startswith(PROTOCOL)
    return MalformedResponse("its head is malformed", "malformed" if is_http else "not-http")


@lru_cache(maxsize=REMEMBERED)
def _parse_response(data: bytes, to_head: bool, limits: HeadLimits) -> ResponseHead:
    data = _accepted(data)
    line = _STATUS_LINE.match(data)
    if line is None:
        raise _no_response(data)
    http10, status, block = line[1] == b"0", int(line[3]), data[line.end() - 2 : -4]
    if _exceeds(block, limits):
        raise MalformedResponse("its head is too large", "too-large")
    index, forwarded_fields, options = headers.of_response(block)
    announced = _response_framing(index, options, http10=http10)  # checked even if there is no body
    framing = None if to_head or status < 200 or status in NO_BODY_STATUSES else announced
    keep_alive = framing is not UntilClose and _keeps_alive(options, http10=http10)
    if status < 200 or status == 204:
        keep_alive = _announces_nothing(announced()) and keep_alive
    has_links = not index.keys().isdisjoint(headers.REWRITTEN)
    return ResponseHead(
        status=status,
        status_line=line[2] if len(line[2]) > 3 else line[2] + b" ",  # the space: RFC 9112 section 4
        forwarded_fields=forwarded_fields,
        index=index,
        framing=framing,
        chunked=framing is not None and b"transfer-encoding" in index,
        keep_alive=keep_alive,
        block=block,
        needs_rewrite=has_links or not index.keys().isdisjoint(headers.NOT_ON_LOCALHOST),
        has_links=has_links,
    )


def _announces_nothing(body: Body) -> bool:
    """RFC 9110 section 8.6, RFC 9112 section 6.1: a 1xx or 204 has no length and no coding.

    An empty chunked body is harmless, but its last chunk may come late: the connection is not reused.
    Raises MalformedResponse.
    """
    if isinstance(body, Length) and not body.done:
        raise MalformedResponse("it announces a body, which its status forbids")
    return not body.chunked


def _response_framing(index: Index, options: Options, *, http10: bool) -> Framing:
    """RFC 9112 section 6.3: chunked, of a known length, or until the connection ends."""
    lengths, encodings = index.get(b"content-length"), index.get(b"transfer-encoding")
    if encodings is not None:
        if http10 or lengths or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise MalformedResponse("its Transfer-Encoding is not chunked alone")
        return partial(Chunked, options.nominated, of_response=True)
    if lengths is None:
        return UntilClose
    if not _is_one_number(lengths):
        raise MalformedResponse("its Content-Length is not one number")
    return partial(Length, int(lengths[0]))
