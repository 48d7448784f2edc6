r"""Header fields, kept as one block of unchanged lines. Pure.

A block is b"\r\nName: value\r\nName: value", each line preceded by CRLF. Its bytes have been accepted by
llhttp: every line is a name, a colon and a value, and there is no other CR or LF in it. One search
over the block costs less than parsing each field, and fields that are not cut pass byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from proxy.http.key_fields import KnownKeys

_BEFORE_COLON: Final = re.compile(rb"(\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]+(?=:)")

Index = dict[bytes, list[bytes]]  # name in lower case -> values, in their order; never changed


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
    return _spelled(name.strip(b" \t-_"))


def count(block: bytes) -> int:
    return block.count(b"\r\n")


def largest(block: bytes) -> int:
    """The size of the longest line."""
    return max(map(len, block.split(b"\r\n")))


def values(block: bytes, name: bytes) -> list[bytes]:
    """The values of the fields called `name`, in their order."""
    found: list[bytes] = re.findall(rb"\r\n(?i:%b):([^\r\n]*)" % re.escape(name), block)
    return [value.strip(b" \t") for value in found]
