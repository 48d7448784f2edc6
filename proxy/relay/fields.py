r"""Header fields as they are kept here: a block of lines, as they came. Pure.

A block is b"\r\nName: value\r\nName: value", each line behind its CRLF. It comes from bytes that llhttp
has accepted: every line is a name, a colon and a value, and there is no other CR or LF in it. One search
over the block costs less than looking at each field, and what is not cut out passes byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

# The fields that decide something here; all others pass unread.
FRAMING: Final = (b"content-length", b"transfer-encoding", b"connection")
TELLING: Final = (  # see admission.py
    b"expect",
    b"upgrade",
    b"via",
    b"max-forwards",
    b"origin",
    b"sec-fetch-site",
    b"sec-fetch-mode",
)
REWRITTEN: Final = (b"location", b"content-location", b"set-cookie")  # of answers, see rewrite.py
Index = dict[bytes, list[bytes]]  # name in lower case -> values, in the order they came; never changed


def _any_of(names: Iterable[bytes]) -> re.Pattern[bytes]:
    return re.compile(rb"\r\n((?i:%b)):([^\r\n]*)" % b"|".join(names))


OF_REQUEST: Final = _any_of((b"host", *FRAMING, *TELLING))
OF_RESPONSE: Final = _any_of((*FRAMING, *REWRITTEN))


def index_of(block: bytes, wanted: re.Pattern[bytes]) -> Index:
    """The values of the `wanted` fields."""
    index: Index = {}
    for name, value in wanted.findall(block):
        index.setdefault(name.lower(), []).append(value.strip(b" \t"))  # RFC 9110 section 5.5
    return index


def count(block: bytes) -> int:
    return block.count(b"\r\n")


def largest(block: bytes) -> int:
    """The size of the longest line."""
    return max(map(len, block.split(b"\r\n")))


def values(block: bytes, name: bytes) -> list[bytes]:
    """The values of the fields called `name`, in the order they came."""
    found: list[bytes] = re.findall(rb"\r\n(?i:%b):([^\r\n]*)" % re.escape(name), block)
    return [value.strip(b" \t") for value in found]


def lines_named(names: Iterable[bytes], *, prefixes: Iterable[bytes] = ()) -> re.Pattern[bytes]:
    """What finds the lines of the fields called `names` or beginning with one of `prefixes`.

    A hyphen also stands for an underscore, and either may stand before or after: CGI-like upstreams can't
    tell `X_Forwarded_For` from `X-Forwarded-For`.
    """
    wanted = [re.escape(name) for name in sorted(names)] + [
        re.escape(prefix) + b"[^:]*" for prefix in prefixes
    ]
    alternatives = b"|".join(wanted).replace(rb"\-", b"[-_]")
    return re.compile(rb"\r\n[-_]*(?i:%b)[-_]*:[^\r\n]*" % alternatives)
