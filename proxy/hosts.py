"""The host names accepted in the Host field.

A web page can make its own name resolve to 127.0.0.1 (DNS rebinding), but can't choose the Host field that
the browser then sends: so requests with unknown names are refused.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where this machine reaches them)
REMEMBERED: Final = 1024  # values of Host; bounded, as callers can vary the port
_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::[0-9]*)?", re.IGNORECASE)


class Hosts:
    """The accepted host names, for all listeners. Ports are not compared."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = LOOPBACK_NAMES | {name.strip("[]").lower() for name in names}
        self._known: dict[str, str] = {}  # a cache of accepted values, as most callers send the same
        self._by_address: dict[tuple[str, str], str] = {}  # the same of those that are our own address

    def leads_here(self, host: str, local_address: str) -> bool:
        """Whether a URL with this host may reach us by an allowed name, however the host is written.

        URL parsers and resolvers take many spellings of an address (`127.1`, `0x7f000001`,
        `[::ffff:127.0.0.1]`) and put the usual one in the Host field.
        """
        name = host.strip("[]").rstrip(".").lower()
        return any(
            self.read(f"[{each}]" if ":" in each else each, local_address) is not None
            for each in {name, _usual(name)}
        )

    def read(self, value: str, local_address: str) -> str | None:
        """The host in a Host field (lower case, no port, no brackets); None if it is not accepted."""
        known = self.known(value) or self._by_address.get((value, local_address))
        if known is not None:
            return known
        parts = _AUTHORITY.fullmatch(value)
        if parts is None:
            return None
        host = parts[1].strip("[]").lower()
        if host in self._names:
            if len(self._known) < REMEMBERED:
                self._known[value] = host
            return host
        if not local_address or not _same_address(host, local_address):
            return None
        if len(self._by_address) < REMEMBERED:
            self._by_address[value, local_address] = host
        return host

    def known(self, value: str) -> str | None:
        """The same for a value that has been accepted at every address; None if it has not."""
        return self._known.get(value)


def reachable(host: str) -> str:
    """The address at which this machine reaches a listener on `host`, which may be all addresses."""
    return EVERYWHERE.get(host, host)


def read_ip(text: str) -> IPAddress:
    """An IP address, without its zone; an IPv4-mapped one as IPv4 (RFC 4291, 2.5.5.2). Raises ValueError."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _usual(host: str) -> str:
    """An address in its usual spelling; a name as it is."""
    try:
        return str(read_ip(host))
    except ValueError:
        try:
            return socket.inet_ntoa(socket.inet_aton(host))  # all that the C library takes for an address
        except OSError:
            return host


@lru_cache(maxsize=REMEMBERED)
def is_localhost(host: str) -> bool:
    """Whether a host (as `Hosts.read` returns it) is this machine's loopback by name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same_address(host: str, local_address: str) -> bool:
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(local_address.partition("%")[0])
    except ValueError:
        return False  # a name, or a unix socket
