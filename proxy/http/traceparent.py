"""The trace that a request belongs to: the field `traceparent` of W3C Trace Context (section 3.2). Pure.

Only the trace id is used, and only if the field is valid: it is 32 hexadecimal digits, whatever a caller
sends, so that it can be logged.
"""

from __future__ import annotations

import re
from typing import Final

_PART: Final = b"arent:"  # of each usual spelling: traceparent, Traceparent, TraceParent
_BEFORE: Final = len(b"\r\ntracep")
_NAME: Final = re.compile(rb"(?i:\r\ntraceparent):[ \t]*")
_VALUE: Final = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[^\r\n]*)?[ \t]*(?:\r|\Z)"
)
_NO_TRACE: Final = b"0" * 32


def trace_id(block: bytes) -> str:
    """The trace id among a request's fields (fields.py); empty without exactly one valid field."""
    at = block.find(_PART)  # one search, as many requests have none
    return "" if at < 0 else _read(block, at)


def _read(block: bytes, at: int) -> str:
    name = _NAME.match(block, max(0, at - _BEFORE))
    while name is None:
        at = block.find(_PART, at + 1)
        if at < 0:
            return ""
        name = _NAME.match(block, max(0, at - _BEFORE))
    value = _VALUE.match(block, name.end())
    if value is None or _is_repeated(block, name.end()):
        return ""
    version, trace, more = value.groups()
    # later versions than the first may have more after the flags; there is no version ff
    if trace == _NO_TRACE or version == b"ff" or (version == b"00" and more is not None):
        return ""
    return trace.decode("ascii")


def _is_repeated(block: bytes, after: int) -> bool:
    at = block.find(_PART, after)
    while at >= 0:
        if _NAME.match(block, at - _BEFORE):
            return True
        at = block.find(_PART, at + 1)
    return False
