"""Reads the heads of requests: bytes up to the empty line -> RequestHead. Pure.

head_reader.py finds the empty line. The first line is read here. The fields are checked by llhttp (httptools)
in its strict mode: a block that it accepts has no bare CR or LF, no folded line and no space before a colon,
so that it can be split at CRLF and forwarded unchanged (lines.py). What llhttp accepts and a proxy must not
(RFC 9112 sections 2, 3.2, 6.1) is refused here. A head is passed whole: when its end is searched for, no byte
of a body has been parsed.

Fields that are byte for byte the last ones of the same length are not judged again.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from proxy.http import cookies, rules
from proxy.http.body import CHUNKED, LENGTH, NONE, Body, Chunked, Length
from proxy.http.fields import Index
from proxy.http.key_fields import PresentedKey, presented, without_keys
from proxy.http.lines import is_one_number
from proxy.http.malformed import MalformedRequest
from proxy.http.message import END, LONGEST, METHODS, SLOTS, HeadLimits, RequestFields, RequestHead
from proxy.http.options import Options

# Targets as in llhttp's strict mode: no control character, space or non-ASCII byte. The version's last digit
# stays with the fields: both determine the verdict.
_REQUEST_LINE: Final = re.compile(rb"([A-Z-]+) ([\x21-\x7e]+) HTTP/1\.(?=[01]\r\n)")
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ")  # RFC 9110 section 5.6.2
_ZERO: Final = 0x30
_NO_CALLBACKS: Final = object()  # only llhttp's verdict matters
_NO_KEYS: Final[list[PresentedKey]] = []


def read_request(data: bytes, limits: HeadLimits) -> RequestHead:
    """Read a request's head. Raises MalformedRequest: the connection must then be closed."""
    line = _REQUEST_LINE.match(data)
    if line is None:
        raise _no_request_line(data)
    method, target = line.groups()
    if method not in METHODS:
        raise _no_request_line(data)
    version = line.end()
    end = max(version + 1, len(data) - 4)  # compiled, no slice may end before its beginning
    fields = _read_fields(data[version + 1 : end], data[version] == _ZERO, limits)
    return RequestHead(method, target, fields, _body(fields, limits))


def _no_request_line(data: bytes) -> MalformedRequest:
    method = _METHOD.match(data)
    if method is not None and method[0].strip() not in METHODS:
        return MalformedRequest("this method is unknown", "method-unknown")
    return MalformedRequest("the request line must be: METHOD target HTTP/1.1")


def _read_fields(block: bytes, http10: bool, limits: HeadLimits) -> RequestFields:
    keys = limits.keys
    if keys is not None and keys.learned != limits.learned:  # what was no key then may be one now
        limits.last_requests = [None] * SLOTS
        limits.learned = keys.learned
    slot = len(block) % SLOTS
    known = limits.last_requests[slot]
    if known is not None and known.block == block and known.http10 == http10:
        return known
    judged = limits.requests.sort_plain(block)
    if judged is None:
        _check_syntax(block, http10)
        judged = limits.requests.sort(block)
    index, forwarded_fields, marks, options = judged
    if marks & rules.TOO_LARGE:
        raise MalformedRequest("a header field is too large, or there are too many", "too-large")
    authority = _authority(index, marks, http10)
    if marks & rules.COOKIE:
        forwarded_fields = cookies.without_admin(forwarded_fields)
    if keys is not None:
        without = without_keys(forwarded_fields, keys)
        if without is not forwarded_fields:  # a key in a field that is not for keys
            forwarded_fields, marks = without, marks | rules.SECRET
    framing, length = _framing(index, http10) if marks & rules.FRAMING else (NONE, 0)
    fields = RequestFields(
        block,
        forwarded_fields,
        index,
        framing=framing,
        length=length,
        nominated=options.nominated,
        keep_alive=keeps_alive(options, http10),
        http10=http10,
        authority=authority,
        needs_checks=marks & rules.CHECKED != 0,
        has_links=marks & rules.LINKS != 0,
        keys=_NO_KEYS if keys is None else presented(index, keys),
    )
    if not marks & rules.SECRET and len(block) <= LONGEST:
        limits.last_requests[slot] = fields
    return fields


def _check_syntax(block: bytes, http10: bool) -> None:
    """Raises MalformedRequest."""
    line = b"GET / HTTP/1.0" if http10 else b"GET / HTTP/1.1"
    try:
        httptools.HttpRequestParser(_NO_CALLBACKS).feed_data(line + block + END)
    except httptools.HttpParserUpgrade:
        pass  # it stops at the head's end for any Upgrade; there is nothing after it here
    except httptools.HttpParserError as error:
        raise MalformedRequest("the request's head is malformed") from error


def _authority(index: Index, marks: int, http10: bool) -> str | None:
    """The value of Host. RFC 9112 section 3.2: exactly one that is well-formed; HTTP/1.0 may omit it."""
    hosts = index.get(b"host")
    if hosts is None:
        if http10:
            return None
        raise MalformedRequest("a request must carry a Host field")
    if len(hosts) > 1:
        raise MalformedRequest("a request must carry one Host field only")
    if marks & rules.BAD_HOST:
        raise MalformedRequest("the Host field must be a host, or host:port")
    return hosts[0].decode("latin-1")


def _framing(index: Index, http10: bool) -> tuple[int, int]:
    """RFC 9112 section 6.3. llhttp has refused both framings at once, and lengths that are not digits."""
    encodings = index.get(b"transfer-encoding")
    if encodings is not None:
        if http10 or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise MalformedRequest("Transfer-Encoding must be chunked alone")
        return CHUNKED, 0
    lengths = index.get(b"content-length")
    if lengths is None:
        return NONE, 0
    if not is_one_number(lengths):
        raise MalformedRequest("Content-Length must be one number")
    return LENGTH, int(lengths[0])


def keeps_alive(options: Options, http10: bool) -> bool:
    """RFC 9112 section 9.3. A connection over HTTP/1.0 carries one response."""
    return not http10 and not options.close


def _body(fields: RequestFields, limits: HeadLimits) -> Body | None:
    if fields.framing == NONE:
        return None
    return Chunked(fields.nominated, keys=limits.keys) if fields.framing == CHUNKED else Length(fields.length)
