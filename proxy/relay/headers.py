"""Which fields pass, and which are ours. Pure.

Strip first, then add: nothing that a caller sends, a `Connection: authorization` least of all, can take
away what is added after it. A rule is one line in one of the tables below.
"""

from __future__ import annotations

from typing import Final

from proxy.relay.message import Field, RequestHead, ResponseHead

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
        b"expect",  # answered by us
        b"forwarded",  # RFC 7239: what a caller says of itself is not to be believed
    }
)
FROM_CALLER: Final = HOP_BY_HOP | REPLACED
FORWARDED: Final = b"x-forwarded-"  # all of them
NOT_IN_TRAILERS: Final = FROM_CALLER | {b"content-length", b"trailer"}  # RFC 9110 section 6.5.1
KEEP_ALIVE: Final = [b"keep-alive"]  # what most Connection fields say: it names no field
NOTHING: Final[frozenset[bytes]] = frozenset()
NEVER_NOMINATED: Final = frozenset({b"content-length", b"via"})  # a Connection field can't remove these


def to_upstream(request: RequestHead, target: bytes, host: bytes, authorization: bytes, via: bytes) -> bytes:
    """The head of the request as the upstream gets it."""
    nominated = _nominated(request.index)
    lines = [b"%b %b HTTP/1.1\r\nHost: %b" % (request.method, target, host)]
    for key, name, value in request.fields:
        if key in FROM_CALLER or key in nominated or key.startswith(FORWARDED):
            continue
        if b"_" in key and _is_twin(key):
            continue
        lines.append(b"%b: %b" % (name, value))
    if request.body is not None and request.body.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    lines.append(b"Authorization: %b\r\nVia: 1.1 %b\r\n\r\n" % (authorization, via))
    return b"\r\n".join(lines)


def to_caller(response: ResponseHead, *, chunked: bool, close: bool) -> bytes:
    """The head of the answer as the caller gets it; `chunked` and `close` are how we frame it."""
    nominated = _nominated(response.index)
    lines = [b"HTTP/1.1 " + response.status_line]
    lines += [
        b"%b: %b" % (name, value)
        for key, name, value in response.fields
        if key not in HOP_BY_HOP and key not in nominated
    ]
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    if close:
        lines.append(b"Connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def trailers(fields: list[Field]) -> bytes:
    """The end of a chunked body, with the trailer fields that may pass."""
    passed = (b"%b: %b\r\n" % (name, value) for key, name, value in fields if _may_trail(key))
    return b"0\r\n%b\r\n" % b"".join(passed)


def _may_trail(key: bytes) -> bool:
    return key not in NOT_IN_TRAILERS and not key.startswith(FORWARDED) and not _is_twin(key)


def _nominated(index: dict[bytes, list[bytes]]) -> frozenset[bytes]:
    """The fields that Connection names for this hop, on all its lines."""
    values = index.get(b"connection")
    if values is None or values == KEEP_ALIVE:
        return NOTHING
    return frozenset(name.strip() for name in b",".join(values).lower().split(b",")) - NEVER_NOMINATED


def _is_twin(key: bytes) -> bool:
    """Whether a CGI-like upstream could read `key` as one of the fields that we remove or set."""
    plain = key.replace(b"_", b"-").strip(b"-")
    return plain != key and (plain in FROM_CALLER or plain == b"via" or plain.startswith(FORWARDED))
