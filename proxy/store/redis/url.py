"""Parse `redis://` and `rediss://` URLs, strictly: an unexpected part may be half of a password.

    redis[s]://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE][?OPTION=VALUE&…]

The server's certificate is always verified. Options, for rediss only: ssl_ca_certs and ssl_ca_path (a file
and a directory of authorities to trust instead of the system's), ssl_certfile and ssl_keyfile (the client's
certificate and key).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from proxy.errors import StoreError
from proxy.secret import Secret

_PORT: Final = 6379
_OPTIONS: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_EXPECTED: Final = "expected redis://USER:PASSWORD@HOST:PORT/DATABASE, with the password percent-encoded"


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    database: int
    username: str | None
    password: Secret | None
    tls: ssl.SSLContext | None

    def __str__(self) -> str:
        scheme = "rediss" if self.tls else "redis"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}/{self.database}"


def read_url(url: str) -> Address:
    """Blocks for rediss, to load the trust store. Raises StoreError without any part of the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise StoreError(f"store.url is invalid: {_EXPECTED}") from None
    database = parts.path.removeprefix("/") or "0"
    if not parts.hostname or not database.isdecimal() or parts.fragment:
        raise StoreError(f"store.url is invalid: {_EXPECTED}")
    return Address(
        unquote(parts.hostname),
        port,
        int(database),
        unquote(parts.username) if parts.username else None,
        Secret(unquote(parts.password)) if parts.password else None,
        _tls(parts, options),
    )


def _tls(parts: SplitResult, options: dict[str, str]) -> ssl.SSLContext | None:
    if not options.keys() <= set(_OPTIONS) or (options and parts.scheme != "rediss"):
        raise StoreError(f"store.url has an unknown option: use {', '.join(_OPTIONS)}, for rediss")
    if parts.scheme != "rediss":
        return None
    try:
        context = ssl.create_default_context(
            cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path")
        )
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except OSError as error:  # includes SSLError
        raise StoreError("store.url names TLS files that can't be used: check its ssl_ options") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9325 section 3.1.1
    return context
