"""Names of this proxy to which browsers send no Fetch Metadata: for `check`. Pure.

They send it to origins that they trust: TLS, loopback, and *.localhost (W3C Secure Contexts, section 3.1). On
a plain listener under another name web pages can be told from programs by their User-Agent only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from proxy.config.address import read_address, read_url
from proxy.config.fault_messages import Complaint
from proxy.config.model import Server
from proxy.config.positions import Path
from proxy.hosts import is_localhost


def advise_names(data: Mapping[str, Any]) -> Iterator[Complaint]:
    """Names that browsers can reach on a plain data listener, and origins of pages there."""
    server = data.get("server", {})
    routes = [route for route in _listed(data.get("routes")) if isinstance(route, dict)]
    if not isinstance(server, dict) or "tls" in server or not _has_port(server, routes):
        return
    for path, host in _names(server, routes):
        if not is_localhost(host.lower().strip("[]")):
            yield Complaint(
                path,
                "without TLS web pages that use this name are known by their User-Agent only, and `origins` "
                "have no effect - use a name that ends in .localhost, or serve TLS (server.tls)",
            )


def _has_port(server: Mapping[str, Any], routes: list[dict[str, Any]]) -> bool:
    """Browsers don't reach unix sockets."""
    listen = server.get("listen", Server.model_fields["listen"].default)
    texts = [*(listen if isinstance(listen, list) else [listen]), *(route.get("listen") for route in routes)]
    return any(isinstance(text, str) and not text.startswith("unix:") for text in texts)


def _names(server: Mapping[str, Any], routes: list[dict[str, Any]]) -> Iterator[tuple[Path, str]]:
    for index, host in enumerate(_listed(server.get("allowed_hosts"))):
        if isinstance(host, str):
            yield ("server", "allowed_hosts", index), host
    listen = server.get("listen")
    for index, text in enumerate(listen if isinstance(listen, list) else [listen]):
        with suppress(ValueError):
            yield ("server", "listen", index), read_address(str(text)).host or "localhost"
    with suppress(ValueError):
        parts = read_url(str(server.get("public_url")))
        if parts.scheme == "http":  # else a TLS proxy in front of us has that name
            yield ("server", "public_url"), parts.hostname or ""
    for index, route in enumerate(routes):
        if isinstance(route.get("host"), str):
            yield ("routes", index, "host"), route["host"]


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
