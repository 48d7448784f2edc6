"""URI references in messages, resolved before anything is decided about them. Pure.

RFC 3986 section 5.2; inputs that the RFC leaves undefined (backslashes, tabs, missing slashes) are read as
browsers' URL parsers do, the most lenient of all clients. The output has a form that every client resolves to
the same URL.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

PORTS: Final = {b"http": 80, b"https": 443, b"ws": 80, b"wss": 443}
PLAIN: Final = {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}  # what WebSocket uses
_EDGES: Final = bytes(range(0x21))  # controls and space: browsers strip them
_SCHEME: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
# curl takes a longer word for a relative path, and old versions require the slash.
SURELY_A_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{0,14}:/")
_REFERENCE: Final = re.compile(rb"([^?#]*)([^#]*)(.*)", re.DOTALL)  # path, query, fragment
_HOST_PORT: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([0-9]{0,5}))?")
_HOST: Final = re.compile(
    rb"\[[0-9a-f:.]+\]|[a-z0-9._~!$&'()*+,;=-]+"
)  # RFC 3986, section 3.2.2, in lower case
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_SAFE: Final = rb"A-Za-z0-9._~!$&'()*+,;=:@/\-"  # of a path, unencoded (RFC 3986 section 3.3)
_NOT_IN_PATH: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})|[^" + _SAFE + rb"%]")
_NOT_IN_QUERY: Final = re.compile(
    rb"[^" + _SAFE + rb"%?#\[\]]"
)  # in query and fragment; a lone % stays there
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PATH_CHARACTERS: Final = _UNRESERVED | frozenset(b"!$&'()*+,;=:@")
# A relative reference that all clients resolve alike: a colon in its first segment could end a scheme, and
# curl resolves a reference without a path to the directory.
_PLAIN_RELATIVE: Final = re.compile(
    rb"(?:/(?!/)[%b%%]*|[A-Za-z0-9._~!$&'()*+,;=@%%-]+(?:/[%b%%]*)?)(?:[?#].*)?" % (_SAFE, _SAFE)
)
_PLAIN_ABSOLUTE: Final = re.compile(rb"[A-Za-z]+://[^/\\?#]+[/?#].*|[A-Za-z]+://[^/\\?#]+")
_ODD: Final = re.compile(rb"[^\x21-\x7e]|[\"<>\\^`{|}]")  # bytes that no URL has


class Url(NamedTuple):
    """An http, https, ws or wss URL."""

    scheme: bytes  # in lower case
    user: bytes  # with its "@", as it came
    host: bytes  # in lower case, an IPv6 address in its brackets
    port: int
    path: bytes  # normalised: begins with "/", no dot segments, nothing encoded needlessly
    query: bytes  # with its "?"
    fragment: bytes  # with its "#"
    relative: bool  # the reference had no authority of its own

    def __bytes__(self) -> bytes:
        port = b"" if self.port == PORTS[self.scheme] else b":%d" % self.port
        start = b"%b://%b%b%b%b" % (self.scheme, self.user, self.host, port, self.path)
        return start + encoded(self.query + self.fragment)


class Unreadable(ValueError):
    """A reference whose host is ambiguous or invalid."""


def resolve(reference: bytes, scheme: bytes, authority: bytes, target: bytes) -> Url | None:
    """The URL of a reference in the document scheme://authority target; None if it has another scheme.

    Raises Unreadable.
    """
    text = reference.strip(_EDGES).replace(b"\t", b"")
    found = _SCHEME.match(text)
    own_scheme = found[1].lower() if found else scheme
    parts = _REFERENCE.match(found[2] if found else text)
    assert parts is not None
    head, query, fragment = parts[1].replace(b"\\", b"/"), parts[2], parts[3]
    if own_scheme not in PORTS:
        return None
    if own_scheme != scheme or head.startswith(b"//"):
        authority, slash, path = head.lstrip(b"/").partition(b"/")
        user, host, port = _read_authority(authority, own_scheme)
        return Url(own_scheme, user, host, port, normalise(slash + path), query, fragment, relative=False)
    user, host, port = _read_authority(authority, scheme)
    base, base_query, _ = _parts(target)
    if not head:
        path, query = base, query or base_query
    else:
        path = head if head.startswith(b"/") else base[: base.rfind(b"/") + 1] + head
    return Url(scheme, user, host, port, normalise(path), query, fragment, relative=True)


def _parts(target: bytes) -> tuple[bytes, bytes, bytes]:
    path, mark, query = target.partition(b"?")
    return path, mark + query, b""


def _read_authority(authority: bytes, scheme: bytes) -> tuple[bytes, bytes, int]:
    user, at, host_port = authority.rpartition(b"@")
    found = _HOST_PORT.fullmatch(host_port)
    host = unquote_to_bytes(found[1]).lower() if found else b""
    if found is None or not _HOST.fullmatch(host) or _ODD.search(user):
        raise Unreadable
    port = int(found[2] or PORTS[scheme])
    if port > 65535:
        raise Unreadable
    return user + at, host, port


def normalise(path: bytes) -> bytes:
    """RFC 3986 section 6.2.2: nothing encoded needlessly, no dot segments; invalid bytes are encoded."""
    path = _NOT_IN_PATH.sub(_encode, path)
    if b"%" in path:
        path = _ESCAPE.sub(_decode_unreserved, path)
    if b"/." not in path:
        return path or b"/"
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in {b".", b".."}:
        kept.append(b"")
    return b"/" + b"/".join(kept)


def _encode(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


def _decode_unreserved(found: re.Match[bytes]) -> bytes:
    code = int(found[1], 16)
    return bytes([code]) if code in _UNRESERVED else found[0]


def decoded(path: bytes) -> bytes:
    """A path as sent by clients that decode all characters which a segment may contain unencoded."""
    return _ESCAPE.sub(_decode_segment, path) if b"%" in path else path


def _decode_segment(found: re.Match[bytes]) -> bytes:
    code = int(found[1], 16)
    return bytes([code]) if code in _PATH_CHARACTERS else found[0]


def encoded(query_and_fragment: bytes) -> bytes:
    return _NOT_IN_QUERY.sub(_encode, query_and_fragment)


def is_plain_relative(reference: bytes) -> bool:
    """Whether all clients resolve this relative reference alike, without changing a byte of it."""
    return (
        _PLAIN_RELATIVE.fullmatch(reference) is not None
        and not _ODD.search(reference)
        and normalise(b"/" + _path_of(reference)) == b"/" + _path_of(reference)
    )


def is_plain_absolute(reference: bytes) -> bool:
    """Whether all clients find the same host in this absolute URL."""
    return _PLAIN_ABSOLUTE.fullmatch(reference) is not None and not _ODD.search(reference)


def _path_of(reference: bytes) -> bytes:
    found = _REFERENCE.match(reference)
    assert found is not None
    return found[1]


def may_climb(reference: bytes) -> bool:
    """Whether any client could resolve part of it to a parent path."""
    decoded_text = unquote_to_bytes(reference)
    return b".." in decoded_text or b"\\" in decoded_text or b"/." in decoded_text
