r"""Header fields, kept as one block of unchanged lines. Pure.

A block is b"\r\nName: value\r\nName: value", each line preceded by CRLF. Its bytes have been accepted by
llhttp: every line is a name, a colon and a value, and there is no other CR or LF in it. Fields that are not
cut (rules.py, lines.py) pass byte for byte.
"""

from __future__ import annotations

import re
from typing import Final

_BEFORE_COLON: Final = re.compile(rb"(\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]+(?=:)")

Index = dict[bytes, list[bytes]]  # name in lower case -> values, in their order; never changed


def spelled(block: bytes) -> bytes:
    """One spelling for each name and its twins, of the same length."""
    return block.lower().replace(b"_", b"-")


def without(names: frozenset[bytes], block: bytes) -> bytes:
    """The block without the lines whose `plain` name is among `names`."""
    if not names:
        return block
    # no regular expression: one of a caller's thousands of names, or of many hyphens, would take minutes
    return b"\r\n".join(line for line in block.split(b"\r\n") if plain(line.partition(b":")[0]) not in names)


def close_up(block: bytes) -> bytes:
    """The block without white space between names and colons (RFC 9112 section 5.1)."""
    return _BEFORE_COLON.sub(rb"\1", block)


def plain(name: bytes) -> bytes:
    """One spelling for a field's name and its twins."""
    return spelled(name.strip(b" \t-_"))


def count(block: bytes) -> int:
    return block.count(b"\r\n")


def largest(block: bytes) -> int:
    """The size of the longest line."""
    return max(map(len, block.split(b"\r\n")))


def values(block: bytes, name: bytes) -> list[bytes]:
    """The values of the fields called `name`, in their order."""
    found: list[bytes] = re.findall(rb"\r\n(?i:%b):([^\r\n]*)" % re.escape(name), block)
    return [value.strip(b" \t") for value in found]
