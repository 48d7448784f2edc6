"""Links and cookies of an answer, as they must read for who calls through a base URL. Pure.

An app that follows `Location: https://api.example/v2/x` would leave the proxy, and its token behind. What
points into the route's upstream is turned to the base URL that the caller used; what points anywhere else
passes as it came, and the token never goes there.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from proxy.config.address import DEFAULT_PORTS, Upstream
from proxy.routes import is_prefix

_LINES: Final = re.compile(rb"(\r\n(?i:(location|content-location)|set-cookie):[ \t]*)([^\r\n]*)")
_AUTHORITY_TO_SOMEBODY: Final = re.compile(rb"/[/\\]")  # RFC 3986 section 4.2; a backslash to browsers
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


class Mapping(NamedTuple):
    """From the upstream's places to the caller's."""

    upstream: Upstream
    prefix: bytes  # what stands before a path for the caller, instead of the upstream's base
    origin: bytes  # scheme and authority that the caller used: b"http://localhost:8080"
    secure: bool  # the caller came by TLS


def rewrite(block: bytes, mapping: Mapping) -> bytes:
    """The field lines with their links and cookies turned round."""

    def line(found: re.Match[bytes]) -> bytes:
        value = _location(found[3], mapping) if found[2] else _cookie(found[3], mapping)
        return found[1] + value

    return _LINES.sub(line, block)


def _location(value: bytes, mapping: Mapping) -> bytes:
    """RFC 9110 section 10.2.2: an absolute URL, or a reference relative to the request's."""
    if _CONTROL.search(value):
        return value  # urlsplit drops tabs, and so would read another URL than stands there
    try:
        parts = urlsplit(value.decode("ascii"))
        port = parts.port
    except ValueError:
        return value
    if not parts.scheme and not parts.netloc:
        path = _turned(value, mapping) if value.startswith(b"/") else None
        if path is None:
            return value
        return mapping.origin + path if _AUTHORITY_TO_SOMEBODY.match(path) else path
    upstream, scheme = mapping.upstream, parts.scheme or mapping.upstream.scheme
    if (scheme, parts.hostname) != (upstream.scheme, upstream.host.lower()) or parts.username is not None:
        return value
    if (port or DEFAULT_PORTS[scheme]) != upstream.port:
        return value
    path = _turned(value[value.index(b"//") + 2 + len(parts.netloc) :] or b"/", mapping)
    return value if path is None else mapping.origin + path


def _turned(path: bytes, mapping: Mapping) -> bytes | None:
    """The caller's path for one of the upstream's; None if it lies outside the route."""
    base = mapping.upstream.base.encode("ascii")
    if not is_prefix(base, path.partition(b"#")[0]):
        return None
    needs_rewrite = mapping.prefix + path[len(base) :]
    return needs_rewrite if needs_rewrite.startswith(b"/") else b"/" + needs_rewrite


def _cookie(value: bytes, mapping: Mapping) -> bytes:
    """RFC 6265 section 4.1: name and value stay, attributes that would keep it from coming back don't."""
    pair, *attributes = value.split(b";")
    kept = (_attribute(attribute, mapping) for attribute in attributes)
    return b";".join((pair, *(attribute for attribute in kept if attribute is not None)))


def _attribute(attribute: bytes, mapping: Mapping) -> bytes | None:
    name, _, value = (part.strip() for part in attribute.partition(b"="))
    match name.lower():
        case b"domain":
            return None  # for the proxy's own host, then
        case b"secure":
            return attribute if mapping.secure else None  # else no program would send it back over http
        case b"path" if value.startswith(b"/"):
            return b" Path=" + (_turned(value, mapping) or mapping.prefix or b"/")
        case _:
            return attribute
