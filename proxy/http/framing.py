"""Payloads as sent on the wire, in the framing of their body (RFC 9112 sections 6 and 7). Pure."""

from __future__ import annotations

from proxy.http import headers
from proxy.http.body import Body, Chunked, encode_chunk


def framed(body: Body, payload: bytes) -> bytes:
    """`payload` (perhaps empty) framed as the next part of `body`, with its end once `body` is done."""
    if not isinstance(body, Chunked):
        return payload
    chunk = encode_chunk(payload) if payload else b""
    return chunk + headers.trailers(body.trailers, body.nominated, body.keys) if body.done else chunk
