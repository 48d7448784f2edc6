"""Which connections come from one peer, as far as its fair share of them goes."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from typing import Final

LOOPBACK: Final = "loopback"  # all of its addresses belong to everyone on this machine
_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred: pid, uid, gid
_OWN_NETWORK: Final = 64  # bits of an IPv6 address that a customer can't choose


def group_of(sock: socket.socket) -> str:
    """An IPv4 address, an IPv6 network, LOOPBACK, or the user at the other end of a unix socket."""
    try:
        if sock.family == socket.AF_UNIX:
            return _user(sock)
        address = ipaddress.ip_address(str(sock.getpeername()[0]).partition("%")[0])
    except (OSError, ValueError):  # it is closed already
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return LOOPBACK
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _OWN_NETWORK), strict=False))
    return str(address)


def _user(sock: socket.socket) -> str:
    if sys.platform != "linux":  # macOS has another option
        return ""
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return f"uid {uid}"
