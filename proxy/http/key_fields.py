"""The fields of a request that carry a caller's key: read, and cut. Pure.

A key is read from a few fields, under their exact names. No field with a key as its value goes upstream,
whatever its name is: neither a twin of those (fields.py) nor any other.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from proxy.caller_keys import PREFIX

if TYPE_CHECKING:
    from proxy.http.fields import Index

OWN: Final = b"token-proxy-key"  # ours alone: a value there is a key, or wrong
AUTHORIZATION: Final = b"authorization"
FIELDS: Final = (OWN, AUTHORIZATION, b"x-api-key", b"api-key", b"x-goog-api-key", b"private-token")
SCHEMES: Final = (b"bearer", b"basic")
SHORTEST: Final = 20  # characters of a key
MOST_OTHERS: Final = 8  # keys that are looked for one by one; more cost more than hashing all values


class KnownKeys:
    """The SHA-256 of each caller's keys, and what to look for. One object for each configuration.

    A key that is configured by its digest only is not known until it has been used: until then each value
    that may be a key is hashed.
    """

    def __init__(self, digests: frozenset[bytes], others: Iterable[bytes], unseen: Iterable[bytes]) -> None:
        """`others`: known keys that do not begin with PREFIX. `unseen`: digests of unknown keys."""
        self.digests = digests
        self.unseen = set(unseen)
        self.learned = 0  # how often `learn` has changed what is looked for
        self._others = dict.fromkeys(others)  # in order, and found at once
        self._values = self._pattern()
        self._digest_of: dict[bytes, bytes] = {}  # of keys that have been used: no more than there are

    def _pattern(self) -> re.Pattern[bytes] | None:
        """Finds values that may be keys; None: each key that is not found by PREFIX is looked for itself."""
        if self.unseen:
            size = b"%d," % SHORTEST
        elif len(self._others) > MOST_OTHERS:
            size = b"%d,%d" % (min(map(len, self._others)), max(map(len, self._others)))
        else:
            return None
        return re.compile(rb":[ \t]*([\x21-\x7e]{%b})[ \t]*(?:\r|\Z)" % size)

    def learn(self, key: PresentedKey) -> None:
        """A key that was known by its digest only has been used."""
        self.learned += 1
        self.unseen.discard(key.digest)
        if not key.value.startswith(PREFIX):
            self._others[key.value] = None
        self._values = self._pattern()

    def digest(self, value: bytes) -> bytes:
        """The SHA-256 of a value."""
        digest = self._digest_of.get(value)
        if digest is None:
            digest = hashlib.sha256(value).digest()
            if (
                digest in self.digests
            ):  # nothing else is kept: neither the keys of strangers nor their guesses
                self._digest_of[value] = digest
        return digest

    def is_key(self, value: bytes) -> bool:
        """Whether a field with this value must not go upstream."""
        if value.startswith(PREFIX) or value in self._others:
            return True
        return len(value) >= SHORTEST and hashlib.sha256(value).digest() in self.digests

    def carries(self, value: bytes) -> bool:
        """The same, with the key as a Bearer token or as the password of Basic too."""
        if self.is_key(value):
            return True
        scheme, key = _after_scheme(value)
        return scheme in SCHEMES and self.is_key(key)

    def first(self, block: bytes, at: int) -> int:
        """Where the first line at or after `at` is that may carry a key: a place within it; -1 for none."""
        found = block.find(PREFIX, at)
        if self._values is not None:
            return _earlier(found, self._first_value(block, at))
        for key in self._others:
            found = _earlier(found, block.find(key, at))
        return found

    def _first_value(self, block: bytes, at: int) -> int:
        """Where the first value with the digest of a key is; -1 for none, or if there is no pattern."""
        values = self._values
        # findall first, which costs half as much: nearly always there is no key
        if values is not None and any(
            hashlib.sha256(value).digest() in self.digests for value in values.findall(block, at)
        ):
            for match in values.finditer(block, at):
                if hashlib.sha256(match[1]).digest() in self.digests:
                    return match.start()
        return -1


def _earlier(one: int, other: int) -> int:
    """The smaller of two places; -1 is none."""
    return other if one < 0 or 0 <= other < one else one


class PresentedKey:
    """A value where a key is looked for."""

    __slots__ = ("digest", "is_explicit", "needs_preflight", "value")

    def __init__(
        self, value: bytes, *, is_explicit: bool, needs_preflight: bool, digest: bytes | None = None
    ) -> None:
        self.value = value
        self.digest = hashlib.sha256(value).digest() if digest is None else digest
        self.is_explicit = is_explicit or value.startswith(PREFIX)  # it is refused if it is no caller's key
        self.needs_preflight = needs_preflight  # no web page can set this field without one (Fetch, CORS)


def presented(index: Index, known: KnownKeys) -> list[PresentedKey]:
    """The values of the fields that may carry a key, in the order in which they count."""
    found: list[PresentedKey] = []
    last: list[PresentedKey] = []
    for name in FIELDS:
        values = index.get(name)
        if values is None:
            continue
        for value in values:
            key = _read(name, value, known)
            if key is not None:
                (found if key.needs_preflight else last).append(key)
        if last:  # passwords, after Bearer tokens
            found += last
            last = []
    return found


def _read(name: bytes, value: bytes, known: KnownKeys) -> PresentedKey | None:
    if name != AUTHORIZATION:
        is_explicit = name == OWN
        return PresentedKey(value, is_explicit=is_explicit, needs_preflight=True, digest=known.digest(value))
    scheme, key = _after_scheme(value)
    if scheme not in SCHEMES:
        return None
    # a browser sends the password that its user has typed once, and asks nobody
    is_bearer = scheme == b"bearer"
    return PresentedKey(key, is_explicit=False, needs_preflight=is_bearer, digest=known.digest(key))


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
    at = known.first(block, 0)
    if at < 0:
        return block
    kept: list[bytes] = []
    done = 0
    while at >= 0:
        start, end = block.rfind(b"\r\n", 0, at), block.find(b"\r\n", at)
        end = len(block) if end < 0 else end
        if known.carries(block[block.find(b":", start) + 1 : end].strip(b" \t")):
            kept.append(block[done:start])
            done = end
        at = known.first(block, end)
    return b"".join((*kept, block[done:]))
