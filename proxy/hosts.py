"""The host names accepted in the Host field.

A web page can make its own name resolve to 127.0.0.1 (DNS rebinding), but can't choose the Host field that
the browser then sends: so requests with unknown names are refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
REMEMBERED: Final = 1024  # values of Host; bounded, as callers can vary the port
_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::[0-9]*)?", re.IGNORECASE)


class Hosts:
    """The accepted host names, for all listeners. Ports are not compared."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = LOOPBACK_NAMES | {name.strip("[]").lower() for name in names}
        self._known: dict[str, str] = {}  # a cache of accepted values, as most callers send the same

    def read(self, value: str, local_address: str) -> str | None:
        """The host in a Host field (lower case, no port, no brackets); None if it is not accepted."""
        known = self._known.get(value)
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
        return host if local_address and _same_address(host, local_address) else None


def _same_address(host: str, local_address: str) -> bool:
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(local_address.partition("%")[0])
    except ValueError:
        return False  # a name, or a unix socket
