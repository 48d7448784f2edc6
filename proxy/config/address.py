"""Parse listen addresses, upstreams, egress proxies and URLs. Pure.

Every fault is a ValueError whose message is shown to the author of the configuration.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from proxy.config.literals import stands_for_a_variable
from proxy.secret import Secret

_TCP: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*)):([0-9]{1,5})")
_UNIX_UPSTREAM: Final = re.compile(r"unix:(/[^:?#]+)(?::(/[^?#]*)?)?")
_NAME: Final = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?")  # RFC 1123, and the "_" of containers
_BASE: Final = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*")  # RFC 3986, section 3.3
_USER: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")  # RFC 3986, and "@"
LARGEST_PORT: Final = 65535
LONGEST_SOCKET: Final = 107  # bytes; sockaddr_un of Linux, without its NUL
PRIVATE: Final = 0o600  # the mode of a unix socket that only its owner can connect to
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NOT_A_URL: Final = "expected a URL: https://host/path"
_NOT_AN_ADDRESS: Final = "expected an address: host:port, [::1]:port or unix:/path"
_WITHOUT_SCHEME: Final = re.compile(
    r"((?:[a-z0-9-]{1,63}\.)+[a-z]{2,24}|localhost)(?::[0-9]{1,5})?(?:/[\w./-]*)?"
)
_WITH_PORT: Final = re.compile(r"(?:[a-z]+://)?(?:\[[0-9a-f:.]*\]|[\w.-]*):([0-9]{5,9})(?:[/?].*)?")
_ONLY_PORT: Final = re.compile(r"(?:https?://)?(?:(\*|[a-z0-9.-]*):)?([0-9]{1,5})/?")


@dataclass(frozen=True, slots=True)
class Address:
    """A listener: host and port, or the path of a unix socket with its file's mode and group.

    Addresses are equal if they can't be listened on at the same time.
    """

    host: str
    port: int
    path: str = ""
    mode: int = field(default=PRIVATE, compare=False)
    group: int | None = field(default=None, compare=False)  # None: that of the process

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    @property
    def is_local(self) -> bool:
        return self.is_unix or is_loopback(self.host)

    def overlaps(self, other: Address) -> bool:
        """Whether only one of the two can be listened on, judging by their texts.

        Port 0 is a different port each time.
        """
        if self.is_unix or other.is_unix:
            return self.path == other.path
        if self.port != other.port or not self.port:
            return False
        return self.host == other.host or _covers(self.host, other.host) or _covers(other.host, self.host)

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{_bracketed(self.host)}:{self.port}"


def read_address(text: str) -> Address:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `unix:/path`. Raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or path.endswith("/") or not path.isprintable():
            raise ValueError("expected an absolute path, like unix:/run/token-proxy.sock")
        if len(path.encode()) > LONGEST_SOCKET:
            raise ValueError(f"the socket's path is too long: expected at most {LONGEST_SOCKET} bytes")
        return Address("", 0, path)
    parts = _TCP.fullmatch(text)
    in_brackets, plain, port = parts.groups() if parts else ("", "", "0")
    host = read_host(in_brackets or plain or "")
    if not host or (":" in host) != bool(in_brackets) or int(port) > LARGEST_PORT:
        raise ValueError(_too_large(text) or _NOT_AN_ADDRESS + _meant_address(text))
    return Address(host, int(port))


def address_of(value: object) -> Address:
    """Of a value of the file. Raises ValueError."""
    if isinstance(value, int) and 0 < value < 10**9 and not isinstance(value, bool):
        raise ValueError(_too_large(f":{value}") or f'expected host and port: "127.0.0.1:{value}"')
    if not isinstance(value, str):
        raise ValueError('expected a string: "…"')  # noqa: TRY004 (pydantic collects ValueErrors)
    return read_address(value)


def _meant_address(text: str) -> str:
    """A port alone, a URL, or an IPv6 address without brackets."""
    address, _, port = text.rpartition(":")
    if ":" in read_host(address) and port.isdigit():
        return f' - did you mean "[{address}]:{port}"?'
    found = _ONLY_PORT.fullmatch(text)
    if found is None or not 0 < int(found[2]) <= LARGEST_PORT:
        return ""
    host = "127.0.0.1" if found[1] in {None, "", "*"} else found[1]
    return f' - did you mean "{host}:{found[2]}"?' if f"{host}:{found[2]}" != text else ""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The target of a route. `base` is its path without a trailing slash; may be empty."""

    scheme: str
    host: str
    port: int
    base: str
    unix_path: str = ""
    field: str = ""  # the member of the token response that names the host; see upstream_hosts.py

    @property
    def authority(self) -> str:
        """The value of the Host field (RFC 9110 section 7.2)."""
        host = _bracketed(self.host)
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        return bool(self.unix_path) or is_loopback(self.host)

    @property
    def origin(self) -> str:
        """Without the base. A host that a token response names is not shown."""
        if self.field:
            return f"{{{self.field}}}"
        return f"unix:{self.unix_path}:" if self.unix_path else f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return (self.origin + self.base).removesuffix(":")


def read_upstream(text: str) -> Upstream:
    """`https://host[:port][/base]` or `unix:/path.sock[:/base]`. Raises ValueError."""
    unix = _UNIX_UPSTREAM.fullmatch(text)
    if unix is not None and text.isprintable():
        return Upstream("http", "localhost", 80, _base(unix[2] or ""), unix[1])
    if text.startswith("unix:"):
        raise ValueError("expected a unix socket: unix:/path.sock or unix:/path.sock:/base")
    parts = read_url(text)
    if "?" in text:
        raise ValueError("a query is not allowed in an upstream: expected https://host/base")
    return Upstream(
        parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme], _base(parts.path)
    )


@dataclass(frozen=True, slots=True)
class Egress:
    """An egress proxy, used by CONNECT. `authorization` is the value of Proxy-Authorization."""

    address: Address
    authorization: Secret | None = None

    def __str__(self) -> str:
        user = f"{self.authorization}@" if self.authorization else ""
        return f"http://{user}{self.address}"


def read_egress(text: str) -> Egress:
    """`http://[user:password@]host[:port]`. Raises ValueError."""
    scheme, slashes, rest = text.partition("://")
    if scheme == "https":
        raise ValueError("TLS to the egress proxy itself is not supported: expected http://host:port")
    user, at, place = rest.rpartition("@")
    try:
        parts = read_url(f"{scheme}{slashes}{place}")
        is_origin = not parts.path.strip("/") and "?" not in place and bool(_USER.fullmatch(user))
    except ValueError:
        is_origin = False
    if not is_origin:
        raise ValueError("expected an egress proxy: http://host:port or http://user:password@host:port")
    if at and ":" not in user:
        raise ValueError("a user without a password: expected http://user:password@host:port")
    address = Address(parts.hostname or "", parts.port or DEFAULT_PORTS["http"])
    return Egress(address, Secret(_basic(user)) if at else None)


def _basic(user: str) -> str:
    """Basic credentials (RFC 7617 section 2) from a URL's percent-encoded user part."""
    return "Basic " + base64.b64encode(unquote_to_bytes(user)).decode("ascii")


def read_url(text: str) -> SplitResult:
    """An http or https URL with a valid host and port, without user and fragment. Raises ValueError."""
    if not text.isascii() or not text.isprintable() or " " in text:  # urlsplit drops some of these
        raise ValueError("expected a URL in ASCII: https://host/path")
    if stands_for_a_variable(text):
        raise ValueError("variables are not replaced here: expected the URL itself, https://host/path")
    try:
        parts = urlsplit(text)
        is_valid = parts.scheme in DEFAULT_PORTS and bool(read_host(parts.hostname or "")) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(_too_large(text) or _NOT_A_URL + _meant_url(text))
    if "@" in parts.netloc:
        raise ValueError("user and password are not allowed in this URL: expected https://host/path")
    if "#" in text:
        raise ValueError("a fragment is not allowed in this URL: expected https://host/path")
    return parts


def _meant_url(text: str) -> str:
    """With the scheme that is missing."""
    found = _WITHOUT_SCHEME.fullmatch(text)
    if found is None:
        return ""
    return f' - did you mean "{"http" if found[1] == "localhost" else "https"}://{text}"?'


def _too_large(text: str) -> str:
    """About a port in a URL or an address; "" if that is not the fault."""
    found = _WITH_PORT.fullmatch(text)
    if found is None or int(found[1]) <= LARGEST_PORT:
        return ""
    return f"port {found[1]} is too large: expected at most {LARGEST_PORT}"


def read_host(text: str) -> str:
    """A host name or IP address in lower case, without brackets; "" if `text` is neither."""
    host = text.lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host if _NAME.fullmatch(host) else ""
    return "" if "%" in host else host  # a zone id is valid on one machine only


def _base(path: str) -> str:
    base = path.rstrip("/")
    if not _BASE.fullmatch(base) or any(segment in {".", ".."} for segment in base.split("/")):
        raise ValueError("empty, dot or unencoded segments in the path: expected /name/name")
    return base


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _covers(host: str, other: str) -> bool:
    """Whether a listener at `host` listens at `other`, too."""
    if host == "localhost":
        return other in {"127.0.0.1", "::1"}
    try:
        address = ipaddress.ip_address(host)
        if not address.is_unspecified:
            return False
        return other == "localhost" or ipaddress.ip_address(other).version == address.version
    except ValueError:  # a name: only the machine knows its addresses
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
