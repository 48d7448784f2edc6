"""The judgement of heads as it was before lines were remembered: one large regular expression, and no memory.

A reference for same_heads.py: it shares no code with the judgement of proxy/http but what both call behind it
(cookies, keys). Do not adapt it to a change there, unless the change is meant to change verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import httptools

from proxy.http import cookies, key_fields
from proxy.http.key_fields import KnownKeys, PresentedKey, presented, without_keys
from proxy.http.malformed import MalformedRequest, MalformedResponse

END: Final = b"\r\n\r\n"
NO_BODY_STATUSES: Final = frozenset({204, 304})  # RFC 9110 section 6.4.1, with HEAD and 1xx
METHODS: Final = frozenset(  # the methods that llhttp knows for HTTP
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH "  # RFC 9110 section 9.3, RFC 5789
    b"PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK ACL SEARCH BIND REBIND UNBIND "  # WebDAV and its kin
    b"REPORT MKACTIVITY CHECKOUT MERGE MKCALENDAR "  # versions and calendars
    b"LINK UNLINK PURGE QUERY NOTIFY SUBSCRIBE UNSUBSCRIBE M-SEARCH SOURCE".split()  # caches, UPnP, Icecast
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

Index = dict[bytes, list[bytes]]


class Limits(NamedTuple):
    field_size: int
    fields: int
    keys: KnownKeys | None = None


class Framing(NamedTuple):
    """The kind of a body: "length", "chunked", "until close"; its length; the names of no trailers."""

    kind: str
    length: int = 0
    nominated: frozenset[bytes] = frozenset()


class RequestFields(NamedTuple):
    block: bytes
    forwarded_fields: bytes
    index: Index
    framing: Framing | None
    keep_alive: bool
    http10: bool
    authority: str | None
    needs_checks: bool
    has_links: bool
    keys: list[PresentedKey]


class Request(NamedTuple):
    method: bytes
    target: bytes
    fields: RequestFields


class Response(NamedTuple):
    status: int
    status_line: bytes
    forwarded_fields: bytes
    index: Index
    framing: Framing | None
    chunked: bool
    keep_alive: bool
    block: bytes
    needs_rewrite: bool
    has_links: bool


def read_request(data: bytes, limits: Limits) -> Request:
    line = _REQUEST_LINE.match(data)
    if line is None:
        raise _no_request_line(data)
    method, target = line.groups()
    if method not in METHODS:
        raise _no_request_line(data)
    return Request(method, target, _parse_request(data[line.end() : -4], limits))


def _no_request_line(data: bytes) -> MalformedRequest:
    method = _METHOD.match(data)
    if method is not None and method[0].strip() not in METHODS:
        return MalformedRequest("this method is unknown", "method-unknown")
    return MalformedRequest("the request line must be: METHOD target HTTP/1.1")


def _parse_request(version_and_fields: bytes, limits: Limits) -> RequestFields:
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
    rules = _REQUEST if keys is None else _REQUEST_WITH_KEYS
    index, forwarded_fields, options = _apply(rules, block, keys)
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
        needs_checks=not index.keys().isdisjoint(NEEDS_CHECKS),
        has_links=not index.keys().isdisjoint(REQUEST_LINKS),
        keys=[] if keys is None else presented(index, keys),
    )


def _exceeds(block: bytes, limits: Limits) -> bool:
    if len(block) > limits.fields and count(block) > limits.fields:  # few bytes are few fields
        return True
    return len(block) > limits.field_size and largest(block) > limits.field_size


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
        return Framing("chunked", nominated=options.nominated)
    lengths = index.get(b"content-length")
    if lengths is None:
        return None
    if not _is_one_number(lengths):
        raise MalformedRequest("Content-Length must be one number")
    return Framing("length", int(lengths[0]))


def _is_one_number(lengths: list[bytes]) -> bool:
    return len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= MOST_DIGITS


def _keeps_alive(options: Options, *, http10: bool) -> bool:
    """RFC 9112 section 9.3. A connection over HTTP/1.0 carries one response."""
    return not http10 and not options.close


def read_response(data: bytes, method: bytes, limits: Limits) -> Response:
    return _parse_response(data, method == b"HEAD", limits)


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
        repaired = close_up(data)
        if repaired == data:
            raise _no_response(data) from error
        return _accepted(repaired)
    return data


def _no_response(data: bytes) -> MalformedResponse:
    is_http = data.startswith(PROTOCOL)
    return MalformedResponse("its head is malformed", "malformed" if is_http else "not-http")


def _parse_response(data: bytes, to_head: bool, limits: Limits) -> Response:
    data = _accepted(data)
    line = _STATUS_LINE.match(data)
    if line is None:
        raise _no_response(data)
    http10, status, block = line[1] == b"0", int(line[3]), data[line.end() - 2 : -4]
    if _exceeds(block, limits):
        raise MalformedResponse("its head is too large", "too-large")
    index, forwarded_fields, options = _apply(_RESPONSE, block)
    announced = _response_framing(index, options, http10=http10)  # checked even if there is no body
    framing = None if to_head or status < 200 or status in NO_BODY_STATUSES else announced
    keep_alive = framing != ("until close", 0, frozenset()) and _keeps_alive(options, http10=http10)
    if status < 200 or status == 204:
        keep_alive = _announces_nothing(announced) and keep_alive
    has_links = not index.keys().isdisjoint(REWRITTEN)
    return Response(
        status=status,
        status_line=line[2] if len(line[2]) > 3 else line[2] + b" ",  # the space: RFC 9112 section 4
        forwarded_fields=forwarded_fields,
        index=index,
        framing=framing,
        chunked=framing is not None and b"transfer-encoding" in index,
        keep_alive=keep_alive,
        block=block,
        needs_rewrite=has_links or not index.keys().isdisjoint(NOT_ON_LOCALHOST),
        has_links=has_links,
    )


def _announces_nothing(announced: Framing) -> bool:
    """RFC 9110 section 8.6, RFC 9112 section 6.1: a 1xx or 204 has no length and no coding.

    An empty chunked body is harmless, but its last chunk may come late: the connection is not reused.
    Raises MalformedResponse.
    """
    if announced.length:
        raise MalformedResponse("it announces a body, which its status forbids")
    return announced.kind != "chunked"


def _response_framing(index: Index, options: Options, *, http10: bool) -> Framing:
    """RFC 9112 section 6.3: chunked, of a known length, or until the connection ends."""
    lengths, encodings = index.get(b"content-length"), index.get(b"transfer-encoding")
    if encodings is not None:
        if http10 or lengths or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise MalformedResponse("its Transfer-Encoding is not chunked alone")
        return Framing("chunked", nominated=options.nominated)
    if lengths is None:
        return Framing("until close")
    if not _is_one_number(lengths):
        raise MalformedResponse("its Content-Length is not one number")
    return Framing("length", int(lengths[0]))


# -- fields

_BEFORE_COLON: Final = re.compile(rb"(\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]+(?=:)")


class Rules:
    """The fields that are read, and those that are cut; all others pass unread.

    A field is read under its exact name only, but cut under any twin of it too: underscores for hyphens, or
    either added at the ends, because CGI-like upstreams can't tell `X_Forwarded_For` from `X-Forwarded-For`.
    To them the twin of a field that is read means the same: it never passes.
    """

    def __init__(
        self,
        *,
        read: Iterable[bytes],
        cut: Iterable[bytes],
        cut_prefix: bytes | None = None,
        keys: Iterable[bytes] = (),
    ) -> None:
        """Names in lower case. Names that begin with `cut_prefix` are cut too.

        `keys`: fields that are read, and cut only if their value is a caller's key. Their twins pass.
        """
        self._cut = frozenset(cut)
        self._keys = frozenset(keys) - self._cut
        names = [re.escape(name) for name in sorted(self._cut.union(read, keys))]
        more = [re.escape(cut_prefix) + b"[^:]*"] if cut_prefix else []
        # matches blocks after `_spelled`: lower case, no underscores
        self._lines = re.compile(
            rb"\r\n-*(?:(%b)%b)-*(:)[^\r\n]*" % (b"|".join(names), b"".join(b"|" + m for m in more))
        )

    def apply(self, block: bytes, known: KnownKeys | None = None) -> tuple[Index, bytes]:
        """Returns (the fields to read, the block without the fields to cut). `known`: callers' keys."""
        index: Index = {}
        kept: list[bytes] = []
        at = 0
        for found in self._lines.finditer(_spelled(block)):
            name = found[1]
            start, end = found.span()
            colon = found.start(2)
            is_twin = block[start + 2 : colon].lower() != name
            is_cut = is_twin or name in self._cut
            if not is_twin:
                value = block[colon + 1 : end].strip(b" \t")  # RFC 9110 section 5.5
                index.setdefault(name, []).append(value)
            if known is not None and name in self._keys:
                is_cut = not is_twin and known.is_key(value)
            if is_cut:
                kept.append(block[at:start])
                at = end
        return index, b"".join((*kept, block[at:])) if at else block


def _spelled(block: bytes) -> bytes:
    """One spelling for each name and its twins, of the same length."""
    return block.lower().replace(b"_", b"-")


def plain(name: bytes) -> bytes:
    return _spelled(name.strip(b" \t-_"))


def count(block: bytes) -> int:
    return block.count(b"\r\n")


def largest(block: bytes) -> int:
    return max(map(len, block.split(b"\r\n")))


def close_up(block: bytes) -> bytes:
    return _BEFORE_COLON.sub(rb"\1", block)


def without(names: frozenset[bytes], block: bytes) -> bytes:
    if not names:
        return block
    return b"\r\n".join(line for line in block.split(b"\r\n") if plain(line.partition(b":")[0]) not in names)


HOP_BY_HOP: Final = frozenset(  # RFC 9110 section 7.6.1; both ways, and in trailers
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",  # each hop has its own framing
        b"upgrade",
        b"http2-settings",  # RFC 7540 section 3.2.1: part of an h2c upgrade
        b"proxy-authenticate",
        b"proxy-authorization",  # credentials for this proxy are not for the upstream
    }
)
REPLACED: Final = frozenset(
    {
        b"authorization",  # by the token
        b"host",  # by the upstream's
        b"forwarded",  # RFC 7239: a caller's own statement is not trustworthy
    }
)
FORWARDED: Final = b"x-forwarded-"  # all of them
NEVER_NOMINATED: Final = HOP_BY_HOP | {  # those are cut in any case
    b"content-length",  # a Connection option must not remove the framing
    b"close",
    b"",
}

# The fields that this proxy acts on (message.py, admission.py, rewrite.py).
FRAMING: Final = (b"content-length", b"transfer-encoding", b"connection")
NEEDS_CHECKS: Final = (
    b"expect",
    b"upgrade",
    b"via",
    b"max-forwards",
    b"origin",
    b"sec-fetch-site",
    b"sec-fetch-mode",
)
REQUEST_LINKS: Final = (b"destination", b"if")
REWRITTEN: Final = (b"location", b"content-location", b"link", b"refresh", b"set-cookie", b"set-cookie2")
# They apply to a whole host, which for a caller is everything on its localhost.
SITE_WIDE: Final = frozenset({b"strict-transport-security", b"clear-site-data"})
CORS: Final = frozenset(  # an upstream's word on which pages may read it; here the route's `origins` decide
    {
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-private-network",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)
NOT_ON_LOCALHOST: Final = SITE_WIDE | CORS
_READ: Final = (b"host", *FRAMING, *NEEDS_CHECKS, *REQUEST_LINKS)
_REQUEST: Final = Rules(read=_READ, cut=HOP_BY_HOP | REPLACED, cut_prefix=FORWARDED)
_REQUEST_WITH_KEYS: Final = Rules(
    read=_READ, cut=HOP_BY_HOP | REPLACED, cut_prefix=FORWARDED, keys=key_fields.FIELDS
)
_RESPONSE: Final = Rules(read=(*FRAMING, *REWRITTEN), cut=HOP_BY_HOP | NOT_ON_LOCALHOST)


class Options(NamedTuple):
    """The options of Connection fields (RFC 9110 section 7.6.1)."""

    close: bool
    nominated: frozenset[bytes]  # names of fields limited to this hop, in head and trailers


NO_OPTIONS: Final = Options(close=False, nominated=frozenset())


def _apply(rules: Rules, block: bytes, known: KnownKeys | None = None) -> tuple[Index, bytes, Options]:
    index, forwarded_fields = rules.apply(block, known)
    values = index.get(b"connection")
    if values is None:
        return index, forwarded_fields, NO_OPTIONS
    options = _read_options(values[0] if len(values) == 1 else b",".join(values))
    return index, without(options.nominated, forwarded_fields), options


def _read_options(value: bytes) -> Options:
    names = frozenset(plain(name) for name in value.split(b","))
    return Options(b"close" in names, names - NEVER_NOMINATED)
