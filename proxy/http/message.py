"""The heads of messages, once read; and the limits and the memory of their reading. Pure.

request_head.py and response_head.py read them. Some of these objects are made for each message: none is a
dataclass, whose methods stay interpreted where this is compiled.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.http import headers
from proxy.http.body import (
    CHUNKED,
    LENGTH,
    NO_BODY,
    UNTIL_CLOSE,
    Body,
    Chunked,
    Length,
    UntilClose,
)
from proxy.http.fields import Index
from proxy.http.key_fields import KnownKeys, PresentedKey
from proxy.http.lines import KnownLines
from proxy.http.plain import SCANNER, Scanner

END: Final = b"\r\n\r\n"
BARE_LF: Final = re.compile(rb"(?<!\r)\n")  # never valid in a head, so refused before the head is complete
PART_OF_END: Final = 3  # most bytes at the end of an incomplete head that can be the beginning of END
METHODS: Final = frozenset(  # the methods that llhttp knows for HTTP
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH "  # RFC 9110 section 9.3, RFC 5789
    b"PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK ACL SEARCH BIND REBIND UNBIND "  # WebDAV and its kin
    b"REPORT MKACTIVITY CHECKOUT MERGE MKCALENDAR "  # versions and calendars
    b"LINK UNLINK PURGE QUERY NOTIFY SUBSCRIBE UNSUBSCRIBE M-SEARCH SOURCE".split()  # caches, UPnP, Icecast
)
IDEMPOTENT: Final = frozenset(  # RFC 9110 section 9.2.2; the safe ones of WebDAV; QUERY
    {b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY"}
)
SLOTS: Final = 64  # heads remembered; one app's are of a few lengths, and all of them are below LONGEST
LONGEST: Final = (
    2048  # bytes of a head that is remembered: at most 128 KiB in each memory, whatever anyone sends
)


class HeadLimits:
    """Bytes of a head and of one field (name and value), number of fields; and what reading heads remembers.

    `keys`: of callers, which are looked for in requests; None without callers. `scanner`: of plain heads;
    without one llhttp checks them too. One object for each configuration: so nothing is remembered that was
    judged by other limits or keys.

    The last head of each length is remembered (modulo SLOTS), as some callers send the same again and again.
    Heads with credentials are not (rules.SECRET): these need not stay in memory, and the time that a head
    takes must not tell whether another caller has sent it.
    """

    __slots__ = (
        "field_size",
        "fields",
        "header_size",
        "keys",
        "last_requests",
        "last_responses",
        "last_to_head",
        "learned",
        "requests",
        "responses",
        "statuses",
    )

    def __init__(
        self,
        header_size: int,
        field_size: int,
        fields: int,
        keys: KnownKeys | None = None,
        scanner: Scanner | None = SCANNER,
    ) -> None:
        self.header_size = header_size
        self.field_size = field_size
        self.fields = fields
        self.keys = keys
        of_request = headers.request_rules(with_keys=keys is not None)
        self.requests = KnownLines(of_request, most=fields, largest=field_size, keys=keys, scanner=scanner)
        of_response = headers.response_rules()
        self.responses = KnownLines(of_response, most=fields, largest=field_size, scanner=scanner)
        self.last_requests: list[RequestFields | None] = [None] * SLOTS
        self.last_responses: list[ResponseHead | None] = [None] * SLOTS
        self.last_to_head: list[ResponseHead | None] = [None] * SLOTS  # to HEAD: without a body
        self.statuses: dict[bytes, StatusLine] = {}
        self.learned = 0  # of the keys, when `last_requests` were judged


class RequestFields:
    """The judged fields of a request; shared by requests with the same fields, and never changed."""

    __slots__ = (
        "authority",
        "block",
        "forwarded_fields",
        "framing",
        "has_links",
        "http10",
        "index",
        "keep_alive",
        "keys",
        "length",
        "needs_checks",
        "nominated",
    )

    def __init__(
        self,
        block: bytes,
        forwarded_fields: bytes,
        index: Index,
        *,
        framing: int,
        length: int,
        nominated: frozenset[bytes],
        keep_alive: bool,
        http10: bool,
        authority: str | None,
        needs_checks: bool,
        has_links: bool,
        keys: list[PresentedKey],
    ) -> None:
        self.block = block  # as they came, see fields.py
        self.forwarded_fields = forwarded_fields  # the part of it that goes upstream
        self.index = index
        self.framing = framing  # see body.py
        self.length = length  # of the body, if it is known
        self.nominated = nominated  # names of fields limited to this hop
        self.keep_alive = keep_alive
        self.http10 = http10
        self.authority = authority  # the value of Host
        self.needs_checks = needs_checks  # it has fields that admission.py checks, besides Host
        self.has_links = has_links  # it has links, which rewrite.py maps
        self.keys = keys  # where callers' keys are looked for; empty without callers


class RequestHead:
    """The head of one request."""

    __slots__ = ("authority", "body", "fields", "forwarded_fields", "method", "page", "path", "target")

    def __init__(self, method: bytes, target: bytes, fields: RequestFields, body: Body | None) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.forwarded_fields = fields.forwarded_fields
        self.body = body
        self.authority = fields.authority  # Host, or that of an absolute-form target (RFC 9112 section 3.2.2)
        self.path = b""  # of the target, with its query; set by admission.py
        self.page = b""  # the Origin of a page that may read the response; set by web_pages.py

    @property
    def wants_websocket(self) -> bool:
        """RFC 6455 section 4.1: GET, and no other protocol in Upgrade."""
        fields = self.fields
        if not fields.needs_checks or fields.http10 or self.method != b"GET":
            return False
        values = fields.index.get(b"upgrade")
        return values is not None and len(values) == 1 and values[0].lower() == b"websocket"


class StatusLine:
    """The first line of a response; never changed."""

    __slots__ = ("http10", "status", "text")

    def __init__(self, status: int, text: bytes, *, http10: bool) -> None:
        self.status = status
        self.text = text  # from the status code on, as it came
        self.http10 = http10


class ResponseHead:
    """The head of a response; shared by all responses with the same head, and never changed."""

    __slots__ = (
        "block",
        "chunked",
        "forwarded_fields",
        "framing",
        "has_links",
        "keep_alive",
        "length",
        "needs_rewrite",
        "nominated",
        "received",
        "status",
        "status_line",
    )

    def __init__(
        self,
        line: StatusLine,
        received: bytes,
        block: bytes,
        forwarded_fields: bytes,
        *,
        framing: int,
        length: int,
        nominated: frozenset[bytes],
        keep_alive: bool,
        needs_rewrite: bool,
        has_links: bool,
    ) -> None:
        self.status = line.status
        self.status_line = line.text
        self.received = received  # the whole head as it came
        self.block = block  # the fields, without white space before colons
        self.forwarded_fields = forwarded_fields  # the fields that go to the caller: a block, see fields.py
        self.framing = framing  # see body.py
        self.length = length  # of the body, if it is known
        self.nominated = nominated  # names of fields limited to this hop
        self.chunked = framing == CHUNKED
        self.keep_alive = keep_alive
        # the caller's head depends on the request: it has links, cookies, NOT_ON_LOCALHOST
        self.needs_rewrite = needs_rewrite
        self.has_links = has_links  # it has links or cookies, which rewrite.py maps

    def body(self) -> Body:
        """The body that follows, unread."""
        if self.framing == LENGTH:
            return Length(self.length)
        if self.framing == CHUNKED:
            return Chunked(self.nominated, of_response=True)
        return UntilClose() if self.framing == UNTIL_CLOSE else NO_BODY

    def with_fields(self, forwarded_fields: bytes) -> ResponseHead:
        """The same head with other fields for the caller."""
        line = StatusLine(self.status, self.status_line, http10=False)
        return ResponseHead(
            line,
            self.received,
            self.block,
            forwarded_fields,
            framing=self.framing,
            length=self.length,
            nominated=self.nominated,
            keep_alive=self.keep_alive,
            needs_rewrite=self.needs_rewrite,
            has_links=self.has_links,
        )
