"""The heads of messages as sent: RequestHead, ResponseHead -> bytes. Pure."""

from __future__ import annotations

from typing import Final

from proxy.http.message import END, RequestHead, ResponseHead

UPGRADE: Final = b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
CHUNKED: Final = b"\r\nTransfer-Encoding: chunked"
_ENDS: Final = {  # of a response's head, by how we frame it: chunked, close
    (False, False): END,
    (True, False): CHUNKED + END,
    (False, True): b"\r\nConnection: close" + END,
    (True, True): CHUNKED + b"\r\nConnection: close" + END,
}


def to_upstream(
    request: RequestHead, target: bytes, host: bytes, attached: bytes, via: bytes, *, upgrade: bool
) -> bytes:
    """The head of the request for the upstream; `upgrade`: ask for WebSocket.

    `attached`: fields to add, each preceded by CR LF (tokens/attachment.py).
    """
    return b"%b %b HTTP/1.1\r\nHost: %b%b%b%b%b\r\nVia: 1.1 %b\r\n\r\n" % (
        request.method,
        target,
        host,
        request.forwarded_fields,
        CHUNKED if request.body is not None and request.body.chunked else b"",
        UPGRADE if upgrade else b"",
        attached,
        via,
    )


def to_caller(response: ResponseHead, *, chunked: bool, close: bool) -> bytes:
    """The head of the response for the caller; `chunked` and `close`: our framing."""
    return b"HTTP/1.1 " + response.status_line + response.forwarded_fields + _ENDS[chunked, close]


def switched(response: ResponseHead) -> bytes:
    """The head of a 101 for the caller: the connection is WebSocket after it."""
    return b"HTTP/1.1 " + response.status_line + response.forwarded_fields + UPGRADE + END
