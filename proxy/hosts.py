"""The names by which a listener may be called: what a Host field may carry.

A web page can make a name of its own resolve to 127.0.0.1 (DNS rebinding), but it can't choose the Host that
the browser then sends: a name that is not ours is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
REMEMBERED: Final = 1024  # values of Host; a caller that varies the port must not fill the memory
_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::[0-9]*)?", re.IGNORECASE)


class Hosts:
    """The names by which this proxy may be called, on either listener. Ports are not compared."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = LOOPBACK_NAMES | {name.strip("[]").lower() for name in names}
        self._known: dict[str, str] = {}  # values that were allowed by name: most callers send one

    def read(self, value: str, local_address: str) -> str | None:
        """The host in a Host field's value (lower case, no port, no brackets); None if it isn't allowed."""
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
