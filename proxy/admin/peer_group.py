"""Which connections come from one peer: for its share of connections, and of guesses of the admin key."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from proxy.admin import peers
from proxy.hosts import read_ip

LOOPBACK: Final = "loopback"  # all of its addresses belong to everyone on this machine
_OWN_NETWORK: Final = 64  # bits of an IPv6 address that a customer can't choose


def group_of(sock: socket.socket) -> str:
    """A user of this machine, an IPv4 address or an IPv6 network; LOOPBACK for unknown users."""
    uid = peers.uid_of_socket(sock, at_once=True)
    if uid is not None:
        return f"uid {uid}"
    try:
        address = read_ip(str(sock.getpeername()[0]))
    except (OSError, ValueError, IndexError):  # it is closed already, or a unix socket
        return LOOPBACK
    if address.is_loopback:
        return LOOPBACK
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _OWN_NETWORK), strict=False))
    return str(address)
