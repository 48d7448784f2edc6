"""Rules about the keys for the admin listener. Pure: parsed TOML in, complaints out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.config.address import Address, read_address
from proxy.config.admin import UNIX
from proxy.config.fault_messages import Complaint
from proxy.config.model import Server
from proxy.config.tables import table

ADMIN: Final = ("server", "admin")
FROM: Final = ("server", "admin_trusts", "from")
OPEN: Final = (
    "anyone on the network could use this page: expected admin_key or admin_tls.client_ca too, or an address "
    "of this machine only"
)
CLEAR: Final = (
    "keys and cookies would pass the network in clear: expected admin_tls too, or admin_trusts with the "
    "address of the proxy that serves TLS in front"
)
NO_SOCKET: Final = (
    '"unix" is for an admin listener on a unix socket: expected the address of the proxy in front'
)
NO_URL: Final = (
    "public_url is missing - expected the https URL of the proxy in front, by which browsers reach this page"
)
ANY_USER: Final = (
    "any user of this machine can send that field from such an address - expected a machine without other "
    "users, or an admin listener on a unix socket"
)


def check_admin(data: Mapping[str, Any]) -> Iterator[Complaint]:
    """The admin listener beyond this machine needs an identity and TLS."""
    server = table(data, "server")
    address = _address(server)
    if address is None:
        return
    trusts = table(server, "admin_trusts")
    if UNIX in _peers(trusts) and not address.is_unix:
        yield Complaint(FROM, NO_SOCKET)
    if address.is_local:
        return
    if "admin_key" not in server and "client_ca" not in table(server, "admin_tls"):
        yield Complaint(ADMIN, OPEN)
    elif "admin_tls" not in server and not trusts:
        yield Complaint(ADMIN, CLEAR)
    if "public_url" in server:
        return
    if _is_unspecified(address.host):
        sentence = f"public_url is missing - a browser can't connect to {address.host}"
        yield Complaint(("server",), sentence, "table", missing="public_url")
    elif trusts and "admin_tls" not in server:
        yield Complaint(("server",), NO_URL, "table", missing="public_url")


def advise_admin(data: Mapping[str, Any]) -> Iterator[Complaint]:
    """For `check`: a person's name that other users of this machine can send as well."""
    for index, peer in enumerate(_peers(table(table(data, "server"), "admin_trusts"))):
        if peer != UNIX and ipaddress.ip_network(peer).is_loopback:
            yield Complaint((*FROM, index), ANY_USER)


def _address(server: Mapping[str, Any]) -> Address | None:
    text = server.get("admin", Server.model_fields["admin"].default)
    try:
        return read_address(text) if isinstance(text, str) else None
    except ValueError:  # the model's own complaint
        return None


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _peers(trusts: Mapping[str, Any]) -> list[str]:
    peers = trusts.get("from")
    return [peer for peer in peers if isinstance(peer, str)] if isinstance(peers, list) else []
