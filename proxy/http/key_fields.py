"""The fields of a request that carry a caller's key: read, and cut. Pure.

A key is read from a few fields, under their exact names. No field with a key as its value goes upstream,
whatever its name is: neither a twin of those (fields.py) nor any other.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final

from proxy.caller_keys import PREFIX
from proxy.http.fields import Index

OWN: Final = b"token-proxy-key"  # ours alone: a value there is a key, or wrong
AUTHORIZATION: Final = b"authorization"
FIELDS: Final = (OWN, AUTHORIZATION, b"x-api-key", b"api-key", b"x-goog-api-key", b"private-token")
SCHEMES: Final = (b"bearer", b"basic")
SHORTEST: Final = 20  # characters of a key


class KnownKeys:
    """The SHA-256 of each caller's keys, and what they look like. One object for each configuration."""

    def __init__(self, digests: frozenset[bytes], lengths: Iterable[int] | None) -> None:
        """`lengths`: of all the keys, in bytes; None: they are not known."""
        self.digests = digests
        sizes = [b"%d," % SHORTEST] if lengths is None else [b"%d" % each for each in sorted(set(lengths))]
        value = b"|".join(rb"[\x21-\x7e]{%b}" % size for size in sizes)
        # a value that may be a key; "$" alone would match before a final LF, which no block has
        self._values = re.compile(rb":[ \t]*(%b)[ \t]*(?:\r|\Z)" % value) if value else None

    def is_key(self, value: bytes) -> bool:
        """Whether a field with this value must not go upstream."""
        return value.startswith(PREFIX) or (
            len(value) >= SHORTEST and hashlib.sha256(value).digest() in self.digests
        )

    def carries(self, value: bytes) -> bool:
        """The same for the value of an Authorization field."""
        scheme, key = _after_scheme(value)
        return self.is_key(value) or (scheme in SCHEMES and self.is_key(key))

    def suspects(self, block: bytes) -> bool:
        """Whether a field of the block may carry a key as its whole value."""
        if PREFIX in block:
            return True
        if self._values is None:
            return False
        return any(hashlib.sha256(value).digest() in self.digests for value in self._values.findall(block))


class PresentedKey:
    """A value where a key is looked for."""

    __slots__ = ("digest", "is_explicit", "needs_preflight", "value")

    def __init__(self, value: bytes, *, is_explicit: bool, needs_preflight: bool = True) -> None:
        self.value = value
        self.digest = hashlib.sha256(value).digest()
        self.is_explicit = is_explicit or value.startswith(PREFIX)  # it is refused if it is no caller's key
        self.needs_preflight = (
            needs_preflight  # a web page can't set this field without one (Fetch section 4.8)
        )


def presented(index: Index) -> list[PresentedKey]:
    """The values of the fields that may carry a key, in the order in which they count."""
    found: list[PresentedKey] = []
    for name in FIELDS:
        values = index.get(name)
        if values is not None:
            if name == AUTHORIZATION:
                found += _authorization(values)
            else:
                found += [PresentedKey(value, is_explicit=name == OWN) for value in values]
    return found


def _authorization(values: list[bytes]) -> list[PresentedKey]:
    """Bearer tokens, then the passwords of Basic."""
    pairs = [_after_scheme(value) for value in values]
    bearers = [PresentedKey(key, is_explicit=False) for scheme, key in pairs if scheme == b"bearer"]
    passwords = [
        # a browser sends what its user has typed once, and asks nobody
        PresentedKey(key, is_explicit=False, needs_preflight=False)
        for scheme, key in pairs
        if scheme == b"basic"
    ]
    return bearers + passwords


def _after_scheme(value: bytes) -> tuple[bytes, bytes]:
    """The scheme in lower case, and the key in it: a token, or a password (RFC 6750, RFC 7617)."""
    scheme, _, rest = value.partition(b" ")
    scheme, rest = scheme.lower(), rest.strip(b" \t")
    if scheme != b"basic":
        return scheme, rest
    try:
        pair = binascii.a2b_base64(rest, strict_mode=True)
    except (binascii.Error, ValueError):
        return b"", b""
    return scheme, pair.partition(b":")[2]


def without_keys(block: bytes, known: KnownKeys) -> bytes:
    """The block without the lines that carry a key."""
    if not known.suspects(block):
        return block
    return b"\r\n".join(
        line for line in block.split(b"\r\n") if not known.carries(line.partition(b":")[2].strip(b" \t"))
    )
