"""Maps URLs between the upstream's view of a request and the caller's. Pure.

A link is resolved against the request's URL at the upstream. A link into the route is mapped to the caller's
URL for it; any other becomes or stays an absolute URL: following a link never leads from one route into
another (a caller could send its request's body there, and another token would be attached).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.config.address import Upstream
from proxy.http import links
from proxy.http.cookies import CookieScope
from proxy.http.links import PLAIN, Unreadable, Url
from proxy.http.malformed import MalformedRequest
from proxy.http.query import without
from proxy.http.target import read_target, upstream_path
from proxy.routes import is_prefix

ELSEWHERE: Final = "Destination and If must stay within the route of their request"
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#\\]*)(.*)")


class Mapping(NamedTuple):
    """The URLs of one route in one request."""

    upstream: Upstream
    prefix: bytes  # the route's path for callers; empty for all paths
    strip: bool  # the prefix is replaced by the upstream's base, instead of following it
    path: bytes  # the request's path and query, as the caller sent it
    origin: bytes  # scheme and authority that the caller used, b"http://localhost:8080"; empty if unknown
    secure: bool  # the caller uses TLS
    is_route: Callable[[bytes], bool]  # whether a path on the caller's listener belongs to this route
    is_own: Callable[[bytes, int], bool]  # whether a host and port lead to a listener of ours
    parameters: frozenset[bytes] = frozenset()  # of the query that take the token: no caller may see it

    @property
    def base(self) -> bytes:
        return self.upstream.base.encode("ascii")

    @property
    def target(self) -> bytes:
        return upstream_path(self.base, self.prefix, self.path, strip=self.strip)

    def cookies(self) -> CookieScope:
        home = self.base if self.strip else self.base + self.prefix
        return CookieScope(home, self.prefix, self.path.partition(b"?")[0], self.secure, self.is_route)

    def to_caller(self, reference: bytes) -> bytes | None:
        """A link of a response for the caller; None: it must not be followed, and is dropped."""
        reference = reference.strip(b" \t")
        if self.parameters:
            reference = without(reference, self.parameters)
        if not reference:
            return reference  # no link: clients ignore it
        scheme, authority = self.upstream.scheme.encode("ascii"), self.upstream.authority.encode("ascii")
        try:
            url = links.resolve(reference, scheme, authority, self.target)
        except Unreadable:
            return None
        if url is None:
            return reference if self._is_elsewhere(reference) else None
        if self._is_upstream(url):
            path = self._caller_path(url.path)
            if path is not None:
                return self._written_for_caller(reference, url, path)
            if self.upstream.unix_path:
                return None  # callers can't reach it: over TCP, its host and port are another server's
        if self.is_own(url.host, url.port):
            return None
        return reference if not url.relative and links.is_plain_absolute(reference) else bytes(url)

    def _is_elsewhere(self, reference: bytes) -> bool:
        """Whether a URL of another scheme leads to no other route, even for clients that don't know it."""
        if links.SURELY_A_SCHEME.match(reference):
            return True
        seen = links.resolve(b"./" + reference, b"http", b"caller", self.path)
        return seen is not None and self._is_mine(seen.path)

    def _is_mine(self, path: bytes) -> bool:
        """Whether a caller's path belongs to this route, both as it is and as some clients decode it.

        A path that is refused as a target does not: Python's urljoin, for one, takes `..;` for dots.
        """
        try:
            read_target(path)
        except MalformedRequest:
            return False
        return self.is_route(path) and self.is_route(links.decoded(path))

    def _is_upstream(self, url: Url) -> bool:
        upstream = self.upstream
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        place = upstream.scheme.encode("ascii"), host.lower().encode("ascii"), upstream.port
        return (PLAIN[url.scheme], url.host, url.port) == place and not url.user

    def _caller_path(self, path: bytes) -> bytes | None:
        """The caller's path for an upstream path; None: it is outside the route."""
        base = links.normalise(self.base) if self.base else b""
        if not is_prefix(base, path):
            return None
        mapped = (self.prefix if self.strip else b"") + path[len(base) :]
        if not mapped.startswith(b"/"):
            mapped = b"/" + mapped
        return mapped if self._is_mine(mapped) else None

    def _written_for_caller(self, reference: bytes, url: Url, path: bytes) -> bytes:
        """The reference unchanged if the caller resolves it to `path`; else rewritten in the same form."""
        if url.relative and links.is_plain_relative(reference):
            seen = links.resolve(reference, url.scheme, b"caller", self.path)
            if seen is not None and seen.path == path:
                return reference
        rest = links.encoded(url.query + url.fragment)
        if not self.origin:  # "//" would begin an authority
            return (b"/." if path.startswith(b"//") else b"") + path + rest
        if url.relative and not path.startswith(b"//"):
            return path + rest
        origin = self.origin if url.scheme.startswith(b"http") else b"ws" + self.origin.removeprefix(b"http")
        return origin + path + rest

    def to_upstream(self, reference: bytes) -> bytes:
        """A link of a request: an absolute URI or an absolute path (RFC 4918 section 8.3).

        A link to another server passes unchanged, for the upstream to check. A link to another route or
        listener of this proxy is refused. Raises MalformedRequest.
        """
        found = _ABSOLUTE.fullmatch(reference)
        if found is None:
            return self._upstream_path(reference) if reference.startswith(b"/") else reference
        try:
            url = links.resolve(reference, b"", b"", b"/")
            if not found[1]:
                raise Unreadable
        except Unreadable as error:
            raise MalformedRequest("Destination and If must name a host") from error
        assert url is not None
        if found[1].lower() != self.origin.partition(b"//")[2].lower():
            if self.is_own(url.host, url.port):
                raise MalformedRequest(ELSEWHERE)
            return reference
        path = found[2] if found[2].startswith(b"/") else b"/" + found[2]
        place = f"{self.upstream.scheme}://{self.upstream.authority}".encode("ascii")
        return place + self._upstream_path(path)

    def _upstream_path(self, path: bytes) -> bytes:
        read_target(path)
        if path.startswith(b"//") or not self._is_mine(path):
            raise MalformedRequest(ELSEWHERE)
        return upstream_path(self.base, self.prefix, path, strip=self.strip)
