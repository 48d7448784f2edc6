"""Which fields pass, and which are ours. Pure.

Strip first, then add: nothing that a caller sends, a `Connection: authorization` least of all, can take
away what is added after it. A rule is one line in one of the tables below.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from proxy.http.fields import Index, Rules, plain, without

HOP_BY_HOP: Final = frozenset(  # RFC 9110 section 7.6.1; both ways, and in trailers
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",  # framing is made anew for the next hop
        b"upgrade",
        b"http2-settings",  # RFC 7540 section 3.2.1: part of an h2c upgrade
        b"proxy-authenticate",
        b"proxy-authorization",  # credentials for this proxy are not the upstream's business
    }
)
REPLACED: Final = frozenset(
    {
        b"authorization",  # by the token
        b"host",  # by the upstream's
        b"forwarded",  # RFC 7239: what a caller says of itself is not to be believed
    }
)
FORWARDED: Final = b"x-forwarded-"  # all of them
NEVER_NOMINATED: Final = HOP_BY_HOP | {  # those are cut in any case
    b"content-length",  # framing is not a caller's to take away
    b"close",
    b"",
}

# What decides something here (message.py, admission.py, rewrite.py).
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
# What an upstream says of its whole host, which here is everything on this machine's localhost.
SITE_WIDE: Final = frozenset({b"strict-transport-security", b"clear-site-data"})
NOT_IN_TRAILERS: Final = frozenset(  # RFC 9110 section 6.5.1; and what is rewritten in heads only
    {b"content-length", b"trailer", b"via", b"cookie", *REQUEST_LINKS, *REWRITTEN, *SITE_WIDE}
)

_REQUEST: Final = Rules(
    read=(b"host", *FRAMING, *NEEDS_CHECKS, *REQUEST_LINKS), cut=HOP_BY_HOP | REPLACED, cut_prefix=FORWARDED
)
_RESPONSE: Final = Rules(read=(*FRAMING, *REWRITTEN), cut=HOP_BY_HOP | SITE_WIDE)
_RESPONSE_ELSEWHERE: Final = Rules(read=(*FRAMING, *REWRITTEN), cut=HOP_BY_HOP)
_TRAILERS: Final = Rules(read=(), cut=HOP_BY_HOP | REPLACED | NOT_IN_TRAILERS, cut_prefix=FORWARDED)
_MAX_FORWARDS: Final = re.compile(rb"\r\n(?i:max-forwards):[^\r\n]*")


class Options(NamedTuple):
    """What Connection fields say of this hop (RFC 9110 section 7.6.1)."""

    close: bool
    nominated: frozenset[bytes]  # fields that are for it alone, in head and trailers


SILENT: Final = Options(close=False, nominated=frozenset())


def of_request(block: bytes) -> tuple[Index, bytes, Options]:
    """What a request's fields say, what of them passes, and what Connection says."""
    return _judge(_REQUEST, block)


def of_response(block: bytes) -> tuple[Index, bytes, Options]:
    """What a response's fields say, what of them passes, and what Connection says.

    It goes to a caller on localhost; for others see `of_response_elsewhere`.
    """
    return _judge(_RESPONSE, block)


def of_response_elsewhere(block: bytes) -> bytes:
    """What passes to a caller who knows this proxy by a name of its own: SITE_WIDE too."""
    return _judge(_RESPONSE_ELSEWHERE, block)[1]


def _judge(rules: Rules, block: bytes) -> tuple[Index, bytes, Options]:
    index, forwarded_fields = rules.apply(block)
    said = index.get(b"connection")
    if said is None:
        return index, forwarded_fields, SILENT
    options = _read_options(said[0] if len(said) == 1 else b",".join(said))
    return index, without(options.nominated, forwarded_fields), options


@lru_cache(maxsize=64)  # nearly all say "keep-alive" or "close"
def _read_options(value: bytes) -> Options:
    names = frozenset(plain(name) for name in value.split(b","))
    return Options(b"close" in names, names - NEVER_NOMINATED)


def trailers(block: bytes, names: frozenset[bytes] = frozenset()) -> bytes:
    """The end of a chunked body, with the trailer fields that may pass. `names`: those `nominated`."""
    return b"0%b\r\n\r\n" % _TRAILERS.apply(without(names, block))[1]


def with_max_forwards(block: bytes, hops: int) -> bytes:
    """RFC 9110 section 7.6.2: each proxy on the way takes one off."""
    return _MAX_FORWARDS.sub(b"\r\nMax-Forwards: %d" % hops, block)
