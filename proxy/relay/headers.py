"""Which fields pass, and which are ours. Pure.

Strip first, then add: nothing that a caller sends, a `Connection: authorization` least of all, can take
away what is added after it. A rule is one line in one of the tables below.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from proxy.relay.fields import lines_named, values

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
NOT_IN_TRAILERS: Final = frozenset({b"content-length", b"trailer", b"via"})  # RFC 9110 section 6.5.1
NEVER_NOMINATED: Final = HOP_BY_HOP | {  # those are cut in any case
    b"content-length",  # framing is not a caller's to take away
    b"close",
    b"",
}

_FROM_CALLER: Final = lines_named(HOP_BY_HOP | REPLACED, prefixes=[FORWARDED])
_FROM_UPSTREAM: Final = lines_named(HOP_BY_HOP)
_MAX_FORWARDS: Final = lines_named([b"max-forwards"])
_FROM_TRAILERS: Final = lines_named(HOP_BY_HOP | REPLACED | NOT_IN_TRAILERS, prefixes=[FORWARDED])


def from_caller(block: bytes) -> bytes:
    """What passes of a request's fields."""
    return _FROM_CALLER.sub(b"", _without(nominated(values(block, b"connection")), block))


def from_upstream(block: bytes) -> bytes:
    """What passes of an answer's fields."""
    return _FROM_UPSTREAM.sub(b"", _without(nominated(values(block, b"connection")), block))


def trailers(block: bytes, names: frozenset[bytes] = frozenset()) -> bytes:
    """The end of a chunked body, with the trailer fields that may pass. `names`: those `nominated`."""
    return b"0%b\r\n\r\n" % _FROM_TRAILERS.sub(b"", _without(names, block))


def with_max_forwards(block: bytes, hops: int) -> bytes:
    """RFC 9110 section 7.6.2: each proxy on the way takes one off."""
    return _MAX_FORWARDS.sub(b"\r\nMax-Forwards: %d" % hops, block)


def nominated(options: Iterable[bytes]) -> frozenset[bytes]:
    """What Connection fields name for this hop alone, in head and trailers (RFC 9110 section 7.6.1)."""
    return frozenset(_plain(name) for name in b",".join(options).split(b",")) - NEVER_NOMINATED


def _without(names: frozenset[bytes], block: bytes) -> bytes:
    if not names:
        return block
    # no pattern is made of a caller's names: thousands of them, or long rows of hyphens, would take minutes
    return b"\r\n".join(line for line in block.split(b"\r\n") if _plain(line.partition(b":")[0]) not in names)


def _plain(name: bytes) -> bytes:
    """One spelling for a field's name and its twins, as in `lines_named`."""
    return name.strip(b" \t-_").replace(b"_", b"-").lower()
