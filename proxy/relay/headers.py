"""Which fields pass, and which are ours. Pure.

Strip first, then add: nothing that a caller sends, a `Connection: authorization` least of all, can take
away what is added after it. A rule is one line in one of the tables below.
"""

from __future__ import annotations

from typing import Final

from proxy.relay.fields import lines_named, remembered, values
from proxy.relay.message import RequestHead, ResponseHead

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
CHUNKED: Final = b"\r\nTransfer-Encoding: chunked"
UPGRADE: Final = b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
CLOSE: Final = b"\r\nConnection: close"
NOT_IN_TRAILERS: Final = frozenset({b"content-length", b"trailer", b"via"})  # RFC 9110 section 6.5.1
NEVER_NOMINATED: Final = frozenset({b"content-length"})  # framing is not a caller's to take away

_FROM_CALLER: Final = lines_named(HOP_BY_HOP | REPLACED, prefixes=[FORWARDED])
_FROM_UPSTREAM: Final = lines_named(HOP_BY_HOP)
_FROM_TRAILERS: Final = lines_named(HOP_BY_HOP | REPLACED | NOT_IN_TRAILERS, prefixes=[FORWARDED])


def to_upstream(
    request: RequestHead, target: bytes, host: bytes, authorization: bytes, via: bytes, *, upgrade: bool
) -> bytes:
    """The head of the request as the upstream gets it; `upgrade` asks for WebSocket anew."""
    return b"%b %b HTTP/1.1\r\nHost: %b%b%b%b\r\nAuthorization: %b\r\nVia: 1.1 %b\r\n\r\n" % (
        request.method,
        target,
        host,
        _from_caller(request.fields),
        CHUNKED if request.body is not None and request.body.chunked else b"",
        UPGRADE if upgrade else b"",
        authorization,
        via,
    )


def to_caller(response: ResponseHead, *, chunked: bool, close: bool) -> bytes:
    """The head of the answer as the caller gets it; `chunked` and `close` are how we frame it."""
    return b"HTTP/1.1 %b%b%b%b\r\n\r\n" % (
        response.status_line,
        _from_upstream(response.fields),
        CHUNKED if chunked else b"",
        CLOSE if close else b"",
    )


def switched(response: ResponseHead) -> bytes:
    """The head of a 101: the connection is WebSocket from here on."""
    return b"HTTP/1.1 %b%b%b\r\n\r\n" % (response.status_line, _from_upstream(response.fields), UPGRADE)


def trailers(block: bytes) -> bytes:
    """The end of a chunked body, with the trailer fields that may pass."""
    return b"0%b\r\n\r\n" % _FROM_TRAILERS.sub(b"", block)


@remembered
def _from_caller(block: bytes) -> bytes:
    return _FROM_CALLER.sub(b"", _without_nominated(block))


@remembered
def _from_upstream(block: bytes) -> bytes:
    return _FROM_UPSTREAM.sub(b"", _without_nominated(block))


def _without_nominated(block: bytes) -> bytes:
    """Without the fields that Connection names for this hop, on all its lines (RFC 9110 section 7.6.1)."""
    options = b",".join(values(block, b"connection")).lower()
    names = {name.strip() for name in options.split(b",")} - NEVER_NOMINATED - {b""}
    return lines_named(names).sub(b"", block) if names else block
