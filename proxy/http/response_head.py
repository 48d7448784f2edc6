"""Reads the heads of responses: bytes up to the empty line -> ResponseHead. Pure.

As in request_head.py: llhttp checks the syntax, lines.py judges the lines, and a head that is byte for byte
the last one of the same length is not judged again.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from proxy.http import fields, rules
from proxy.http.body import CHUNKED, LENGTH, NONE, UNTIL_CLOSE
from proxy.http.fields import Index
from proxy.http.lines import Sorted, is_one_number
from proxy.http.malformed import MalformedResponse
from proxy.http.message import BARE_LF, END, LONGEST, SLOTS, HeadLimits, ResponseHead, StatusLine
from proxy.http.request_head import keeps_alive

NO_BODY_STATUSES: Final = frozenset({204, 304})  # RFC 9110 section 6.4.1, with HEAD and 1xx
PROTOCOL: Final = b"HTTP/1."  # the beginning of each response
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) (([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?)")
MOST_STATUS_LINES: Final = 64  # remembered; an upstream sends some ten
LONGEST_STATUS_LINE: Final = 64  # bytes of one that is remembered
_NO_CALLBACKS: Final = object()  # only llhttp's verdict matters


def read_response(data: bytes, method: bytes, limits: HeadLimits) -> ResponseHead:
    """Read the head of a response to `method`. Raises MalformedResponse."""
    to_head = method == b"HEAD"
    memory = limits.last_to_head if to_head else limits.last_responses
    slot = len(data) % SLOTS
    known = memory[slot]
    if known is not None and known.received == data:
        return known
    line, block, judged = _judge(data, limits)
    index, forwarded_fields, marks, options = judged
    if marks & rules.TOO_LARGE:
        raise MalformedResponse("its head is too large", "too-large")
    status = line.status
    framing, length = _framing(index, line.http10) if marks & rules.FRAMING else (UNTIL_CLOSE, 0)
    keep_alive = keeps_alive(options, line.http10)
    if status < 200 or status == 204:
        keep_alive = _announces_nothing(framing, length) and keep_alive
    if to_head or status < 200 or status in NO_BODY_STATUSES:  # announced or not
        framing = NONE
    has_links = marks & rules.LINKS != 0
    head = ResponseHead(
        line,
        data,
        block,
        forwarded_fields,
        framing=framing,
        length=length,
        nominated=options.nominated,
        keep_alive=keep_alive and framing != UNTIL_CLOSE,
        needs_rewrite=marks & (rules.LINKS | rules.SITE) != 0,
        has_links=has_links,
    )
    if not marks & rules.SECRET and len(data) <= LONGEST:
        memory[slot] = head
    return head


def _block(data: bytes, begin: int) -> bytes:
    """What is between the status line and the empty line; nothing if that is missing.

    Compiled, a slice of bytes whose end is before its beginning is no empty one: it raises SystemError.
    """
    return data[begin:-4] if 0 <= begin <= len(data) - 4 else b""


def _judge(data: bytes, limits: HeadLimits) -> tuple[StatusLine, bytes, Sorted]:
    """Returns (the status line, the block of fields, what it says). Raises MalformedResponse.

    A status line that is remembered has been accepted by llhttp: then it need not see a plain block below it.
    """
    end = data.find(b"\r\n")
    line, block = limits.statuses.get(data[:end]), _block(data, end)
    plain = limits.responses.sort_plain(block) if line is not None and data.endswith(END) else None
    if line is not None and plain is not None:
        return line, block, plain
    accepted = _accepted(data)
    end = accepted.find(b"\r\n")
    line, block = limits.statuses.get(accepted[:end]), _block(accepted, end)
    if line is None:
        line = _learn(accepted, accepted[:end], limits)
    return line, block, limits.responses.sort(block)


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


def _learn(data: bytes, line: bytes, limits: HeadLimits) -> StatusLine:
    """Read a status line that is not remembered. Raises MalformedResponse."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise _no_response(data)
    text = found[2] if len(found[2]) > 3 else found[2] + b" "  # the space: RFC 9112 section 4
    status_line = StatusLine(int(found[3]), text, http10=found[1] == b"0")
    if len(line) <= LONGEST_STATUS_LINE:
        if len(limits.statuses) == MOST_STATUS_LINES:  # begin again: that costs each of them one reading
            limits.statuses.clear()
        limits.statuses[line] = status_line
    return status_line


def _announces_nothing(framing: int, length: int) -> bool:
    """RFC 9110 section 8.6, RFC 9112 section 6.1: a 1xx or 204 has no length and no coding.

    An empty chunked body is harmless, but its last chunk may come late: the connection is not reused.
    Raises MalformedResponse.
    """
    if framing == LENGTH and length:
        raise MalformedResponse("it announces a body, which its status forbids")
    return framing != CHUNKED


def _framing(index: Index, http10: bool) -> tuple[int, int]:
    """RFC 9112 section 6.3: chunked, of a known length, or until the connection ends."""
    lengths, encodings = index.get(b"content-length"), index.get(b"transfer-encoding")
    if encodings is not None:
        if http10 or lengths or len(encodings) > 1 or encodings[0].lower() != b"chunked":
            raise MalformedResponse("its Transfer-Encoding is not chunked alone")
        return CHUNKED, 0
    if lengths is None:
        return UNTIL_CLOSE, 0
    if not is_one_number(lengths):
        raise MalformedResponse("its Content-Length is not one number")
    return LENGTH, int(lengths[0])
