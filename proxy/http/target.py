"""A request's target -> the authority and path that decide everything after. Pure.

Routing and the upstream path use the same bytes: the path checked here is the path sent. A path that an
upstream could read as a different one is refused, not repaired.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from proxy.http.malformed import MalformedRequest

DECODINGS: Final = 8  # no legitimate path is encoded more often
SLASH: Final = 0x2F
# Without these, and without "/.", a path can be read in one way only. That is searched for on its own: of
# characters alone the search is four times as fast.
_SUSPECT: Final = re.compile(rb"[%\\#]")
# A dot segment to any parser: parameters may follow it; "?" and "#", once decoded, end a path that is parsed
# as a URL again; browsers' URL parsers drop tabs and line breaks, Windows drops spaces.
_DOTS: Final = re.compile(rb"(?:\A|/)[\x00-\x20]*\.[\x00-\x20]*(?:\.[\x00-\x20]*)?(?:[/;?#]|\Z)")
# ASCII in more bytes than it needs, which careless UTF-8 decoders accept (RFC 3629 section 10).
_OVERLONG: Final = re.compile(rb"(?:[\xc0\xc1]|\xe0[\x80\x81]|\xf0\x80[\x80\x81])[\x80-\xbf]")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)([^#]*)", re.IGNORECASE)


# The path with its query, beginning with "/", or "*"; and the authority of an absolute-form target, which
# replaces Host.
Target = tuple[bytes, bytes | None]


def read_target(target: bytes) -> Target:
    """RFC 9112 section 3.2. Raises MalformedRequest."""
    authority = None
    if target[0] != SLASH:
        if target == b"*":
            return target, None
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None or b"@" in absolute[1]:
            raise MalformedRequest("the request target must be a path, or an http URL without user")
        authority, target = absolute[1], absolute[2] or b"/"
        if target.startswith(b"?"):
            target = b"/" + target
    if target.find(b"/.") >= 0 or _SUSPECT.search(target):
        _check(target)
    return target, authority


def _check(target: bytes) -> None:
    if b"#" in target:
        raise MalformedRequest("a request target must not have a fragment")
    path = target.partition(b"?")[0]
    for _ in range(DECODINGS):
        if not _is_safe(path):
            raise MalformedRequest("the path has a segment that could lead outside its route")
        decoded = unquote_to_bytes(path)
        if decoded == path:
            return
        path = decoded
    raise MalformedRequest("the path is encoded too many times")


def _is_safe(path: bytes) -> bool:
    path = _OVERLONG.sub(_shortest, path)
    return b"\\" not in path and b"\x00" not in path and _DOTS.search(path) is None


def _shortest(overlong: re.Match[bytes]) -> bytes:
    """The ASCII character: the seven bits in the last two bytes."""
    lead, last = overlong[0][-2:]
    return bytes([(lead & 1) << 6 | last & 0x3F])


def upstream_path(base: bytes, prefix: bytes, path: bytes, *, strip: bool) -> bytes:
    """The upstream's path for `path`: the base, then `path` unchanged (without its prefix if `strip`)."""
    mapped = base + (path[len(prefix) :] if strip else path)
    return mapped if mapped[:1] == b"/" else b"/" + mapped
