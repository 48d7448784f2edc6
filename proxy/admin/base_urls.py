"""The base URLs of routes: what an SDK's `base_url` has to be, without a slash at the end.

    a path           http://127.0.0.1:8080/crm
    its own listener http://127.0.0.1:9001
    a host           http://crm.localhost:8080, whether or not this machine resolves that name

Of several listeners the first on loopback counts, else the first; those on unix sockets have no URL. With TLS
the host is a name of the certificate that callers may use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from proxy.config.address import Address, is_loopback
from proxy.config.model import Config, ListenerTLS, Route
from proxy.hosts import reachable
from proxy.listeners import Listeners, places_of_routes


class Listening(NamedTuple):
    """An open data listener."""

    address: Address  # with the port that the system chose for port 0
    tls: ListenerTLS | None = None
    route: str | None = None  # its own route


def listening(config: Config, listeners: Listeners) -> list[Listening]:
    """The open data listeners of a configuration."""
    routes = {place: route.name for place, route in places_of_routes(config).items()}
    return [
        Listening(listeners.bound(place), config.listener_tls(place.address), routes.get(place))
        for place in listeners.places
        if place.kind == "data" or place in routes
    ]


def base_url(route: Route, listeners: Iterable[Listening], accepted: Collection[str]) -> str | None:
    """None if it has none. `accepted`: names that the Host field may have."""
    own = route.name if route.listen is not None else None
    usable = [each for each in listeners if each.route == own and not each.address.is_unix]
    if not usable:
        return None
    chosen = min(usable, key=lambda each: not is_loopback(reachable(each.address.host)))
    host = route.host or reachable(chosen.address.host)
    if chosen.tls is not None and not route.host:
        host = name_for(host, names_in(chosen.tls.cert), accepted)
    scheme = "https" if chosen.tls else "http"
    path = route.path if route.path not in {None, "/"} else ""
    return f"{scheme}://{Address(host, chosen.address.port)}{path}"


def name_for(host: str, certified: Sequence[str], accepted: Collection[str]) -> str:
    """`host` if the certificate has it, else the first name of the certificate that callers may use."""
    if host in certified:
        return host
    return next((name for name in certified if name in accepted), host)


def names_in(certificate: Path) -> list[str]:
    """The DNS names and addresses of a certificate chain's first one (RFC 5280 section 4.2.1.6); or none."""
    from cryptography import x509  # noqa: PLC0415 (only for listeners with TLS)

    try:
        first = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress)]
    except (OSError, ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return []
    return [str(name).lower() for name in found]
