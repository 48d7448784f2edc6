"""The trace that a request belongs to: the field `traceparent` of W3C Trace Context (section 3.2). Pure.

Only the trace id is used, and only if the field is valid: it is 32 hexadecimal digits, whatever a caller
sends, so that it can be logged.
"""

from __future__ import annotations

import re
from typing import Final

_PART: Final = b"arent:"  # of each usual spelling: traceparent, Traceparent, TraceParent
_BEFORE: Final = len(b"\r\ntracep")
_NAME: Final = re.compile(rb"\r\n[Tt][Rr][Aa][Cc][Ee][Pp]arent:")
_VALID: Final = re.compile(
    _NAME.pattern + rb"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    rb"(-[^\r\n]*)?[ \t]*(?:\r|\Z)"
)
_NO_TRACE: Final = b"0" * 32
_NO_PARENT: Final = b"0" * 16

# The usual line, "traceparent: 00-TRACE-PARENT-FLAGS", is judged without a regular expression.
_USUAL_NAMES: Final = frozenset({b"\r\ntracep", b"\r\nTracep", b"\r\nTraceP", b"\r\ntraceP"})
_USUAL_START: Final = b"arent: 00-"
_USUAL_SIZE: Final = len(b"arent: 00-") + 32 + 1 + 16 + 1 + 2
_DIGITS: Final = b"0123456789abcdef"
_HYPHENS: Final = b"--"
_HYPHEN: Final = 0x2D
_LINE_ENDS: Final = frozenset({b"", b"\r"})


def trace_id(block: bytes) -> str:
    """The trace id among a request's fields (fields.py); empty without exactly one valid field."""
    at = block.find(_PART)  # one search, as many requests have none
    if at < 0:
        return ""
    line = block[at : at + _USUAL_SIZE]
    if _is_usual(line) and at >= _BEFORE and block[at - _BEFORE : at] in _USUAL_NAMES:
        end = at + _USUAL_SIZE
        if block[end : end + 1] in _LINE_ENDS and block.find(_PART, end) < 0:
            return _trace_of(b"00", line[10:42], None)
    return _read(block, at)


def _is_usual(line: bytes) -> bool:
    return (
        len(line) == _USUAL_SIZE
        and line[:10] == _USUAL_START
        and line[42] == _HYPHEN
        and line[59] == _HYPHEN
        and line[10:].translate(None, _DIGITS) == _HYPHENS
        and line[43:59] != _NO_PARENT
    )


def _read(block: bytes, at: int) -> str:
    """`at`: the first _PART."""
    while at >= 0:
        start = max(0, at - _BEFORE)
        valid = _VALID.match(block, start)
        if valid is not None:
            return "" if _is_repeated(block, valid.end()) else _trace_of(valid[1], valid[2], valid[3])
        if _NAME.match(block, start):  # it is not valid
            return ""
        at = block.find(_PART, at + 1)
    return ""


def _is_repeated(block: bytes, after: int) -> bool:
    at = block.find(_PART, after)
    while at >= 0:
        if _NAME.match(block, at - _BEFORE):
            return True
        at = block.find(_PART, at + 1)
    return False


def _trace_of(version: bytes, trace: bytes, more: bytes | None) -> str:
    """Later versions than the first may have more after the flags; there is no version ff."""
    if trace == _NO_TRACE or version == b"ff" or (version == b"00" and more is not None):
        return ""
    return trace.decode("ascii")
