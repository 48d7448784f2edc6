"""Rules about several tables of the configuration. Pure: parsed TOML in, complaints out.

The checks read the parsed file, not the models: so they run even where a table has other faults. A value of
the wrong type is skipped here, as its complaint comes from the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from proxy.config.address import Address
from proxy.config.fault_messages import SEE_LINE, Complaint, suggestion
from proxy.config.grants import REQUIREMENTS, requirements_of
from proxy.config.listeners import read_listen
from proxy.config.model import Config, Credential, Server
from proxy.config.positions import Path
from proxy.config.references import NO_HOME
from proxy.config.route import default_name
from proxy.config.tables import Tables, route_list, table

_Place = tuple[Path, object]

SECRETS: Final = ("client_secret", "client_key", "key", "password", "refresh_token", "value")
_PASSWORD: Final = re.compile(r"://[^@]*:[^@]*@|[?&]password=")  # in the URL of a store
_SECRET_FIELD: Final = re.compile("key|token|secret|auth|passw|cookie", re.IGNORECASE)


def check(data: Tables) -> Iterator[Complaint]:
    """Conflicts between tables: duplicate routes and listeners, unknown credentials."""
    routes = [_Seen(index, route) for index, route in enumerate(route_list(data)) if isinstance(route, dict)]
    credentials = table(data, "credentials")
    yield from _check_places(routes)
    for seen in routes:
        yield from _check_credential(seen, credentials)
    yield from _check_listeners(table(data, "server"), routes)


def check_pkce(data: Tables) -> Iterator[Complaint]:
    """Logins without PKCE: for warnings."""
    for name, credential in table(data, "credentials").items():
        if isinstance(credential, dict) and credential.get("pkce") is False:
            yield Complaint(
                ("credentials", name, "pkce"),
                "without PKCE a stolen code can be used - expected only where the server refuses it",
            )


def check_legacy(data: Tables) -> Iterator[Complaint]:
    """Grants that a server should no longer need: for warnings."""
    for name, credential in table(data, "credentials").items():
        asks = requirements_of(credential.get("grant")) if isinstance(credential, dict) else None
        if asks is not None and asks.warning:
            yield Complaint(("credentials", name, "grant"), asks.warning)


def check_secrets(data: Tables) -> Iterator[Complaint]:
    """Secrets written into the file: allowed, but reported as warnings."""
    places = [*_secrets_of_the_server(data), *_egress_passwords(data)]
    for name, credential in table(data, "credentials").items():
        places += [(("credentials", name, key), credential.get(key)) for key in SECRETS]
    for name, caller in table(data, "callers").items():
        keys = caller.get("key") if isinstance(caller, dict) else None
        places += [
            (("callers", name, "key", at), key)
            for at, key in enumerate(keys if isinstance(keys, list) else [keys])
        ]
    for index, route in enumerate(route_list(data)):
        headers = table(route, "headers") if isinstance(route, dict) else {}
        places += [
            (("routes", index, "headers", name), headers[name])
            for name in headers
            if _SECRET_FIELD.search(name)
        ]
    for path, value in places:
        if isinstance(value, str):
            yield Complaint(
                path, 'a secret in the configuration file itself - use { env = "NAME" } or { file = "name" }'
            )


def _secrets_of_the_server(data: Tables) -> Iterator[_Place]:
    store = table(data, "store")
    yield ("store", "key"), store.get("key")
    yield ("server", "admin_key"), table(data, "server").get("admin_key")
    webhook = table(data, "notify").get("url")
    if isinstance(webhook, str) and not webhook.startswith("http:"):  # that stays on this machine
        yield ("notify", "url"), webhook
    if _PASSWORD.search(str(store.get("url", ""))):
        yield ("store", "url"), store["url"]


def _egress_passwords(data: Tables) -> Iterator[_Place]:
    tables: list[tuple[Path, Tables]] = [(("server",), table(data, "server"))]
    tables += [(("credentials", name), each) for name, each in table(data, "credentials").items()]
    tables += [(("routes", index), each) for index, each in enumerate(route_list(data))]
    for path, each in tables:
        if "@" in str(each.get("proxy", "")):
            yield (*path, "proxy"), each["proxy"]


def check_state_dir(config: Config) -> Iterator[Complaint]:
    """A store on this host needs a directory. For valid tables only."""
    if config.server.state_dir == NO_HOME and config.store.scheme == "sqlite":
        yield Complaint(
            ("server",),
            "no home directory here, so no place for the tokens: set server.state_dir or $STATE_DIRECTORY",
            "table",
            missing="state_dir",
        )


def check_patterns(data: Tables) -> Iterator[Complaint]:
    """Patterns that repeat their route's path, so that they fit nothing: for warnings."""
    for index, route in enumerate(route_list(data)):
        prefix = route.get("path") if isinstance(route, dict) else None
        for key in ("allow", "deny") if isinstance(prefix, str) and prefix != "/" else ():
            patterns = route[key] if isinstance(route.get(key), list) else []
            for number, pattern in enumerate(patterns):
                if f"{pattern}/".startswith(f"{prefix}/"):
                    sentence = "patterns are compared below the route's path: did you mean it without"
                    yield Complaint(("routes", index, key, number), f"{sentence} {prefix}?")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A route of the file, which may have faults."""

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
        """Host and path; None without either, and for a listener (see _check_listeners)."""
        host, path = self.text("host") or "", self.text("path") or ""
        if "listen" in self.route or not (host or path):
            return None
        return host.lower(), path or "/"  # a host alone covers all its paths


def _check_places(routes: list[_Seen]) -> Iterator[Complaint]:
    names: dict[str, _Seen] = {}
    places: dict[tuple[str, str], _Seen] = {}
    for seen in routes:
        if seen.place is not None and (first := places.setdefault(seen.place, seen)) is not seen:
            where = (*seen.path, "path" if seen.text("path") else "host")
            sentence = f"route {first.name!r}{SEE_LINE} already has this host and path - choose others"
            yield Complaint(where, sentence, see=first.path)
            if "name" not in seen.route:
                continue  # the names follow from that
        if seen.name is not None and (first := names.setdefault(seen.name, seen)) is not seen:
            where = (*seen.path, "name") if "name" in seen.route else seen.path
            sentence = f"another route{SEE_LINE} is already named {seen.name!r} - choose a different name"
            yield Complaint(where, sentence, see=first.path)


def _check_credential(seen: _Seen, credentials: Tables) -> Iterator[Complaint]:
    name = seen.text("credential")
    if name is None:
        return
    if name not in credentials:
        remedy = suggestion(name, credentials) or "define it as [credentials.NAME]"
        yield Complaint((*seen.path, "credential"), f"there is no credential {name!r} - {remedy}")
        return
    grant = table(credentials, name).get("grant", Credential.model_fields["grant"].default)
    known = REQUIREMENTS.get(grant) if isinstance(grant, str) else None
    if known is not None and not known.has_accounts and seen.route.get("account", "default") != "default":
        yield Complaint(
            (*seen.path, "account"), f'grant = "{grant}" has the account "default" only - leave account out'
        )


def _check_listeners(server: Tables, routes: list[_Seen]) -> Iterator[Complaint]:
    """No two listeners share an address."""
    listen = server.get("listen", Server.model_fields["listen"].default)
    shared = enumerate(listen) if isinstance(listen, list) else [(0, listen)]
    listeners: list[tuple[Path, object]] = [(("server", "listen", index), text) for index, text in shared]
    listeners.append((("server", "admin"), server.get("admin", Server.model_fields["admin"].default)))
    if "health" in server:
        listeners.append((("server", "health"), server["health"]))
    listeners += [((*seen.path, "listen"), seen.route["listen"]) for seen in routes if "listen" in seen.route]
    taken: list[tuple[Path, Address]] = []
    for path, text in listeners:
        with suppress(ValueError):
            address = read_listen(text)
            if other := next((each for each in taken if each[1].overlaps(address)), None):
                yield Complaint(path, _taken(address, *other), see=other[0])
            taken.append((path, address))


def _taken(address: Address, path: Path, other: Address) -> str:
    name = ".".join(step for step in path if isinstance(step, str)) + SEE_LINE
    if address == other:
        return f"{address} is already used by {name} - choose another address"
    return f"{address} and {other} of {name} can't both be used - choose another port"
