"""Cookies of upstreams, limited to their own route (RFC 6265). Pure.

A cookie jar knows hosts and paths, but no routes: a cookie that an upstream sets would reach another route's
upstream unless its path is one that only this route's requests have.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.routes import is_prefix

BROWSER_COOKIE: Final = "token_proxy_browser"  # of the admin pages; cookies don't distinguish ports
SESSION_COOKIE: Final = "token_proxy_session"
_COMMON: Final = b"token_proxy_"
_ADMIN: Final = frozenset({BROWSER_COOKIE.encode("ascii"), SESSION_COOKIE.encode("ascii")})
_COOKIE_LINES: Final = re.compile(rb"(\r\n(?i:cookie):[ \t]*)([^\r\n]*)")
_SPACES: Final = b" \t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0"  # stripped from attribute names by one jar or another


class CookieScope(NamedTuple):
    """Where the cookies of a route may go."""

    home: bytes  # the route's path upstream; without a trailing slash, empty for all paths
    prefix: bytes  # the same for callers
    path: bytes  # of the request, as the caller sent it, without its query
    secure: bool  # the caller uses TLS
    is_route: Callable[[bytes], bool]  # whether a caller's path belongs to this route


def limit(value: bytes, scope: CookieScope) -> bytes | None:
    """The value of a Set-Cookie field for the caller; None: the cookie is dropped.

    Jars differ in which of two Path attributes they use: only the last is kept (RFC 6265 section 5.3).
    """
    pair, *attributes = value.split(b";")
    if _is_admin(pair):
        return None
    kept: list[bytes] = [pair]
    at, path = 0, b""
    for attribute in attributes:
        name, _, attribute_value = attribute.partition(b"=")
        name = name.strip(_SPACES).lower()
        if name == b"path":
            at, path = at or len(kept), attribute_value.strip(_SPACES)
        elif name != b"domain" and (name != b"secure" or scope.secure):
            kept.append(attribute)
    mapped = _path(path, scope)
    if mapped is None:
        return None
    if mapped:
        kept.insert(at or len(kept), _attribute(mapped, path, attributes))
    return b";".join(kept)


def _attribute(mapped: bytes, path: bytes, attributes: list[bytes]) -> bytes:
    """The Path attribute; as it came if its value is `mapped` already."""
    if mapped == path:
        for attribute in attributes:
            if attribute.strip(b" \t")[:5].lower() == b"path=" and attribute[-len(path) :] == path:
                return attribute
    return b" Path=" + mapped


def _path(value: bytes, scope: CookieScope) -> bytes | None:
    """The value of Path for the caller, empty for none; None: the path is outside the route."""
    home, prefix = scope.home, scope.prefix
    if not value.startswith(b"/"):  # no path, or an invalid one: the jar uses that of the request
        default = scope.path[: scope.path.rfind(b"/")] or b"/"
        return b"" if is_prefix(prefix, default) else prefix
    if _covers(value, home):
        return prefix or b"/"
    if not is_prefix(home, value):
        return None
    mapped = prefix + value[len(home) :]
    return mapped if scope.is_route(mapped) else None


def _covers(path: bytes, home: bytes) -> bool:
    """RFC 6265 section 5.1.4: whether a cookie with this path is sent to all of `home`."""
    return path in {b"/", home} or (home.startswith(path) and (path[-1:] == b"/" or home[len(path)] == 0x2F))


def _is_admin(pair: bytes) -> bool:
    """A cookie without a name is sent as its value alone: `=name=value` comes back as `name=value`."""
    name = pair.strip(_SPACES + b"=").partition(b"=")[0].strip(_SPACES)
    return name.removeprefix(b"__Host-") in _ADMIN


def without_admin(block: bytes) -> bytes:
    """A request's fields without the admin pages' cookies; all other bytes are unchanged."""
    return _COOKIE_LINES.sub(_cut_admin, block) if _COMMON in block else block


def _cut_admin(line: re.Match[bytes]) -> bytes:
    pairs = line[2].split(b";")
    kept = [pair for pair in pairs if not _is_admin(pair)]
    if len(kept) == len(pairs):
        return line[0]
    rest = b";".join(kept).lstrip(b" \t")
    return line[1] + rest if rest else b""
