"""The fields that pass, and those that this proxy sets. Pure.

Strip first, then add: no field that a caller sends, such as `Connection: authorization`, can remove a field
that is added afterwards. A rule is one line in one of the tables below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from proxy.http import key_fields, rules
from proxy.http.fields import plain, values, without
from proxy.http.key_fields import KnownKeys
from proxy.http.rules import Rules

HOP_BY_HOP: Final = frozenset(  # RFC 9110 section 7.6.1; both ways, and in trailers
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",  # each hop has its own framing
        b"upgrade",
        b"http2-settings",  # RFC 7540 section 3.2.1: part of an h2c upgrade
        b"proxy-authenticate",
        b"proxy-authorization",  # credentials for this proxy are not for the upstream
    }
)
REPLACED: Final = frozenset(
    {
        b"authorization",  # by the token
        b"host",  # by the upstream's
        b"dpop",  # by the proof of the token's key, if it has one (RFC 9449)
        b"forwarded",  # RFC 7239: a caller's own statement is not trustworthy
    }
)
FORWARDED: Final = b"x-forwarded-"  # all of them

# The fields that this proxy acts on (request_head.py, response_head.py, admission.py, rewrite.py).
FRAMING: Final = (b"content-length", b"transfer-encoding", b"connection")
NEEDS_CHECKS: Final = (
    b"expect",
    b"upgrade",
    b"via",
    b"max-forwards",
    b"origin",
    b"sec-fetch-site",
    b"sec-fetch-mode",
)
REQUEST_LINKS: Final = (b"destination", b"if")
REWRITTEN: Final = (b"location", b"content-location", b"link", b"refresh", b"set-cookie", b"set-cookie2")
# They apply to a whole host, which for a caller is everything on its localhost.
SITE_WIDE: Final = frozenset({b"strict-transport-security", b"clear-site-data"})
CORS: Final = frozenset(  # an upstream's word on which pages may read it; here the route's `origins` decide
    {
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-private-network",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)
NOT_ON_LOCALHOST: Final = SITE_WIDE | CORS
NOT_IN_TRAILERS: Final = frozenset(  # RFC 9110 section 6.5.1; and what is rewritten in heads only
    {b"content-length", b"trailer", b"via", b"cookie", *REQUEST_LINKS, *REWRITTEN, *NOT_ON_LOCALHOST}
)

_READ: Final = (b"host", *FRAMING, *NEEDS_CHECKS, *REQUEST_LINKS)
_MARKS: Final = {
    b"host": rules.HOST,
    b"connection": rules.OPTIONS,
    b"content-length": rules.FRAMING,
    b"transfer-encoding": rules.FRAMING | rules.PARSED,
    b"upgrade": rules.PARSED,
}
_OF_REQUEST: Final = {
    **_MARKS,
    b"cookie": rules.COOKIE,
    **dict.fromkeys(NEEDS_CHECKS, rules.CHECKED),
    b"upgrade": rules.CHECKED | rules.PARSED,
    **dict.fromkeys(REQUEST_LINKS, rules.LINKS),
}
_OF_RESPONSE: Final = {
    **_MARKS,
    **dict.fromkeys(REWRITTEN, rules.LINKS),
    **dict.fromkeys(NOT_ON_LOCALHOST, rules.SITE),
}
_ELSEWHERE: Final = Rules(read=(*FRAMING, *REWRITTEN), cut=HOP_BY_HOP)
_TO_PAGE: Final = Rules(read=(*FRAMING, *REWRITTEN), cut=HOP_BY_HOP | CORS)
_TRAILERS: Final = Rules(cut=HOP_BY_HOP | REPLACED | NOT_IN_TRAILERS, cut_prefix=FORWARDED)
_MAX_FORWARDS: Final = re.compile(rb"\r\n(?i:max-forwards):[^\r\n]*")


def request_rules(*, with_keys: bool) -> Rules:
    """Of a request's fields. `with_keys`: there are callers with keys, which are looked for."""
    keys = key_fields.FIELDS if with_keys else ()
    cut = HOP_BY_HOP | REPLACED
    return Rules(read=_READ, cut=cut, cut_prefix=FORWARDED, keys=keys, marks=_OF_REQUEST)


def response_rules() -> Rules:
    """Of a response's fields, for a caller that uses localhost; for others see `of_response_elsewhere`."""
    read = (*FRAMING, *REWRITTEN)
    return Rules(read=read, cut=HOP_BY_HOP | NOT_ON_LOCALHOST, marks=_OF_RESPONSE)


def of_response_elsewhere(block: bytes, nominated: frozenset[bytes], *, to_page: bool) -> bytes:
    """The block to forward to a caller that uses another name for this proxy: with the SITE_WIDE fields.

    With the CORS fields too, but not `to_page`: a page of a route's `origins` gets ours.
    """
    return without(nominated, (_TO_PAGE if to_page else _ELSEWHERE).cut(block))


def trailers(block: bytes, names: frozenset[bytes] = frozenset(), keys: KnownKeys | None = None) -> bytes:
    """The end of a chunked body, with the trailer fields that pass. `names`: `Options.nominated`."""
    passed = _TRAILERS.cut(without(names, block))
    return b"0%b\r\n\r\n" % (passed if keys is None else key_fields.without_keys(passed, keys))


def own_authorization(block: bytes, nominated: frozenset[bytes], keys: KnownKeys | None) -> bytes:
    """The caller's Authorization, for a route that passes it on; never one that carries a caller's key.

    `block`: all fields of the request. `nominated`: by its Connection.
    """
    if b"authorization" in nominated:
        return b""
    own = [
        b"\r\nAuthorization: " + value
        for value in values(block, b"authorization")
        if keys is None or not keys.carries(value)
    ]
    return b"".join(own)


class RouteFields:
    """The fields that a route sets, and those of the caller that it drops; `names`: all of them, `plain`."""

    __slots__ = ("_rules", "_set", "names")

    def __init__(self, fields: Mapping[str, str], dropped: Iterable[str]) -> None:
        self.names = frozenset(plain(name.encode("ascii")) for name in (*fields, *dropped))
        self._rules = Rules(cut=self.names)
        lines = [f"\r\n{name}: {value}" for name, value in fields.items()]
        self._set = "".join(lines).encode("ascii")

    def apply(self, block: bytes) -> bytes:
        """The block with these fields of the route, and none of the caller's (nor their twins)."""
        return self._rules.cut(block) + self._set


def with_max_forwards(block: bytes, hops: int) -> bytes:
    """RFC 9110 section 7.6.2: each proxy decrements it by one."""
    return _MAX_FORWARDS.sub(b"\r\nMax-Forwards: %d" % hops, block)
