"""A tunnel through the network's HTTP proxy: CONNECT (RFC 9110 section 9.3.6).

Behind the proxy's answer nothing may have come: whoever is at the other end speaks when it is spoken to, and
what the proxy says itself would be read as an upstream's answer.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from proxy.config.address import Address, Egress
from proxy.http.malformed import MalformedResponse
from proxy.http.message import END, HeadLimits, read_response

_LIMITS: Final = HeadLimits(header_size=16384, field_size=16384, fields=100)  # proxies say little


class NoTunnel(Exception):
    """The network's proxy opens none; the text says why, in our words."""


async def open_tunnel(sock: socket.socket, egress: Egress, to: Address) -> None:
    """Ask the proxy at the other end of `sock` to lead to `to`. Raises NoTunnel, OSError."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _request(egress, to))
    received = b""
    status = 0
    while status < 200:  # 1xx come before the answer, if at all
        while END not in received:
            data = await loop.sock_recv(sock, _LIMITS.header_size)
            if not data or len(received) > _LIMITS.header_size:
                raise NoTunnel("gives no answer to CONNECT")
            received += data
        head, _, received = received.partition(END)
        status = _status(head + END)
    if status in {401, 407}:  # 401: tinyproxy, to a wrong password
        raise NoTunnel(f"wants another user or password ({status})")
    if status >= 300:
        raise NoTunnel(f"refuses to lead to the upstream ({status})")
    if received:
        raise NoTunnel("says more than an answer to CONNECT")


def _request(egress: Egress, to: Address) -> bytes:
    lines = [f"CONNECT {to} HTTP/1.1", f"Host: {to}"]
    if egress.authorization:
        lines.append(f"Proxy-Authorization: {egress.authorization.reveal()}")
    return "\r\n".join((*lines, "", "")).encode("ascii")


def _status(head: bytes) -> int:
    try:
        return read_response(head, b"CONNECT", _LIMITS).status
    except MalformedResponse:
        raise NoTunnel("does not speak HTTP") from None
