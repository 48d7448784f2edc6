"""Where to listen, and where an upstream is: text of the configuration -> values. Pure.

Every fault is a ValueError whose message is a sentence for the person who wrote the text.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_TCP: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_UNIX_UPSTREAM: Final = re.compile(r"unix:(/[^:?#]+)(?::(/[^?#]*))?")
_BASE: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A listener: host and port, or the path of a unix socket."""

    host: str
    port: int
    path: str = ""

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    @property
    def is_local(self) -> bool:
        return self.is_unix or is_loopback(self.host)

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{_bracketed(self.host)}:{self.port}"


def read_address(text: str) -> Address:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `unix:/path`. Raises ValueError."""
    if text.startswith("unix:"):
        if not text.startswith("unix:/"):
            raise ValueError("a unix socket needs an absolute path - unix:/run/token-proxy.sock")
        return Address("", 0, text.removeprefix("unix:"))
    parts = _TCP.fullmatch(text)
    if parts is None or int(parts[2]) > 65535:
        raise ValueError("not an address - host:port, [::1]:port or unix:/path is meant")
    return Address(parts[1].strip("[]"), int(parts[2]))


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a route leads. `base` is a path without a trailing slash, empty for none."""

    scheme: str
    host: str
    port: int
    base: str
    unix_path: str = ""

    @property
    def authority(self) -> str:
        """The value of the Host field (RFC 9110 section 7.2)."""
        if self.unix_path:
            return "localhost"
        host = _bracketed(self.host)
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        return bool(self.unix_path) or is_loopback(self.host)


def read_upstream(text: str) -> Upstream:
    """`https://host[:port][/base]` or `unix:/path.sock[:/base]`. Raises ValueError."""
    unix = _UNIX_UPSTREAM.fullmatch(text)
    if unix is not None:
        return Upstream("http", "localhost", 80, _base(unix[2] or ""), unix[1])
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("not a URL - https://host/base is meant") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("not a URL of an upstream - https://host/base or unix:/path.sock:/base is meant")
    if parts.username is not None or parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("an upstream has no user, query or fragment - just https://host/base")
    return Upstream(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme], _base(parts.path))


def _base(path: str) -> str:
    base = path.rstrip("/")
    if not _BASE.fullmatch(base) or any(segment in {".", ".."} for segment in base.split("/")):
        raise ValueError("the upstream's path has empty, dot or unprintable segments - write it plainly")
    return base


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
