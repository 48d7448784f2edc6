"""What several tables of the configuration must agree on. Pure: what the file holds in, complaints out.

The checks look at what stands in the file, not at models made of it: so they need no table to be free of
other faults. What is not of the right type here has its complaint already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from proxy.config.address import Address, read_address
from proxy.config.fault_messages import Complaint, suggestion
from proxy.config.grants import REQUIREMENTS
from proxy.config.model import Credential, Server
from proxy.config.positions import Path
from proxy.config.route import default_name

Tables = Mapping[str, Any]
SECRETS: Final = ("client_secret", "refresh_token")


def check(data: Tables) -> Iterator[Complaint]:
    """All that is wrong between the tables."""
    routes = [_Seen(index, route) for index, route in enumerate(_tables(data)) if isinstance(route, dict)]
    credentials = _table(data, "credentials")
    yield from _check_places(routes)
    for seen in routes:
        yield from _check_credential(seen, credentials)
    yield from _check_listeners(_table(data, "server"), routes)


def check_secrets(data: Tables) -> Iterator[Complaint]:
    """What should be kept out of the file, but may be there: for warnings."""
    places: list[tuple[Path, object]] = [(("store", "key"), _table(data, "store").get("key"))]
    for name, credential in _table(data, "credentials").items():
        places += [(("credentials", name, key), credential.get(key)) for key in SECRETS]
    proxied: list[tuple[Path, Tables]] = [
        (("credentials", name), credential) for name, credential in _table(data, "credentials").items()
    ]
    proxied += [(("routes", index), route) for index, route in enumerate(_tables(data))]
    places += [
        ((*path, "proxy"), table["proxy"]) for path, table in proxied if "@" in str(table.get("proxy", ""))
    ]
    for path, value in places:
        if isinstance(value, str):
            yield Complaint(
                path, 'a secret in the file itself - { env = "NAME" } or { file = "name" } is meant'
            )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A route as far as it can be read."""

    index: int
    route: Tables

    @property
    def path(self) -> Path:
        return ("routes", self.index)

    def text(self, key: str) -> str | None:
        value = self.route.get(key)
        return value if isinstance(value, str) else None

    @property
    def name(self) -> str | None:
        return self.text("name") if "name" in self.route else default_name(self.route)

    @property
    def place(self) -> tuple[str, str] | None:
        """None for none, and for a listener: addresses are checked all together."""
        host, path = self.text("host") or "", self.text("path") or ""
        if "listen" in self.route or not (host or path):
            return None
        return host.lower(), path or "/"  # a host alone means all its paths


def _check_places(routes: list[_Seen]) -> Iterator[Complaint]:
    names: dict[str, _Seen] = {}
    places: dict[tuple[str, str], _Seen] = {}
    for seen in routes:
        if seen.name is not None and names.setdefault(seen.name, seen) is not seen:
            where = (*seen.path, "name") if "name" in seen.route else seen.path
            yield Complaint(where, f"a second route is named {seen.name!r} - a name of its own is meant")
        if seen.place is not None and (first := places.setdefault(seen.place, seen)) is not seen:
            where = (*seen.path, "path" if seen.text("path") else "host")
            yield Complaint(where, f"route {first.name!r} has this place already - one of its own is meant")


def _check_credential(seen: _Seen, credentials: Tables) -> Iterator[Complaint]:
    name = seen.text("credential")
    if name is None:
        return
    if name not in credentials:
        meant = suggestion(name, credentials) or "[credentials.NAME] is meant"
        yield Complaint((*seen.path, "credential"), f"there is no credential {name!r} - {meant}")
        return
    grant = _table(credentials, name).get("grant", Credential.model_fields["grant"].default)
    known = REQUIREMENTS.get(grant) if isinstance(grant, str) else None
    if known is not None and not known.has_accounts and seen.route.get("account", "default") != "default":
        yield Complaint(
            (*seen.path, "account"), f'grant = "{grant}" has the account "default" only - leave account out'
        )


def _check_listeners(server: Tables, routes: list[_Seen]) -> Iterator[Complaint]:
    """Two listeners can't share an address; port 0 is never the same twice."""
    listen = server.get("listen", Server.model_fields["listen"].default)
    shared = enumerate(listen) if isinstance(listen, list) else [(0, listen)]
    listeners: list[tuple[Path, object]] = [(("server", "listen", index), text) for index, text in shared]
    listeners.append((("server", "admin"), server.get("admin", Server.model_fields["admin"].default)))
    listeners += [((*seen.path, "listen"), seen.text("listen")) for seen in routes]
    taken: set[Address] = set()
    for path, text in listeners:
        with suppress(ValueError):
            address = read_address(text) if isinstance(text, str) else Address("", 0)
            if address in taken and (address.port or address.is_unix):
                yield Complaint(path, f"{address} is taken by another listener - one of its own is meant")
            taken.add(address)


def _table(data: Tables, key: str) -> Tables:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _tables(data: Tables) -> list[Any]:
    value = data.get("routes")
    return value if isinstance(value, list) else []
