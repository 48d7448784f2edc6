"""A tunnel through the egress proxy: CONNECT (RFC 9110 section 9.3.6).

No data may follow the egress proxy's response: an upstream does not speak first, and bytes of the egress
proxy itself would be read as the upstream's response.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from proxy.config.address import Address, Egress
from proxy.failure_causes import Cause
from proxy.http.malformed import MalformedResponse
from proxy.http.message import END, HeadLimits
from proxy.http.response_head import read_response
from proxy.relay import upstream_causes as causes

_LIMITS: Final = HeadLimits(header_size=16384, field_size=16384, fields=100)  # responses to CONNECT are short


class NoTunnel(Exception):
    """The egress proxy opens no tunnel."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.sentence)
        self.cause = cause


async def open_tunnel(sock: socket.socket, egress: Egress, to: Address) -> None:
    """Ask the egress proxy at the other end of `sock` for a tunnel to `to`. Raises NoTunnel, OSError."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _request(egress, to))
    received = b""
    status = 0
    while status < 200:  # 1xx responses may come first
        while END not in received:
            data = await loop.sock_recv(sock, _LIMITS.header_size)
            if not data or len(received) > _LIMITS.header_size:
                raise NoTunnel(causes.PROXY_ENDS)
            received += data
        head, _, received = received.partition(END)
        status = _status(head + END)
    if status >= 300:
        raise NoTunnel(causes.of_status(status))
    if received:
        raise NoTunnel(causes.PROXY_SPEAKS)


def _request(egress: Egress, to: Address) -> bytes:
    lines = [f"CONNECT {to} HTTP/1.1", f"Host: {to}"]
    if egress.authorization:
        lines.append(f"Proxy-Authorization: {egress.authorization.reveal()}")
    return "\r\n".join((*lines, "", "")).encode("ascii")


def _status(head: bytes) -> int:
    try:
        return read_response(head, b"CONNECT", _LIMITS).status
    except MalformedResponse:
        raise NoTunnel(causes.PROXY_NOT_HTTP) from None
