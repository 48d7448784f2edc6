"""Rules about [callers], the listeners and the routes together. Pure: parsed TOML in, complaints out.

As in checks.py, a value of the wrong type is skipped: its complaint comes from the model.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from proxy.config.address import PRIVATE
from proxy.config.callers import Caller, Network, read_certificate_name, read_network
from proxy.config.fault_messages import Complaint, suggestion
from proxy.config.listeners import mode_of, read_listen
from proxy.config.positions import Path
from proxy.config.route import default_name
from proxy.config.tables import Tables, route_list, table

Place = tuple[Path, object]
KEYS: Final = ("key", "key_sha256", "not_before")  # not_before: of signed keys
IDENTITIES: Final = (*KEYS, "certificate", "uid", "gid", "networks")
OF_PROCESSES: Final = ("uid", "gid")  # known on unix sockets
FAR: Final = (
    "anyone on the network could use the tokens: expected a loopback address or a unix socket; or "
    "[callers.NAME], or server.anyone"
)
IN_CLEAR: Final = (
    "without TLS the network could read callers' keys: expected server.tls, or server.plaintext = true"
)
BOUND: Final = (
    "its tokens are bound to a key (dpop), and of no use without it - expected a credential without dpop"
)
NOT_WITH_CALLERS: Final = "anyone does not go with callers - leave it out, or make these networks a caller's"
OPEN_NETWORKS: Final = (
    "every program in these networks may use all routes and accounts - [callers] can limit them"
)


def check_callers(data: Tables) -> Iterator[Complaint]:
    """Callers that can't be identified or told apart, and listeners that need callers."""
    callers = _callers(data)
    for name, caller in callers.items():
        if frozenset(caller).isdisjoint(IDENTITIES):
            yield Complaint(
                ("callers", name),
                "this caller has no identity - expected key, key_sha256, certificate, uid, gid or networks; "
                "or not_before, for signed keys only",
                "table",
            )
        yield from _check_routes(data, name, caller)
        yield from _check_tokens(data, name, caller)
    yield from _check_identities(callers)
    yield from _check_listeners(data, callers)
    yield from _check_accounts(data)
    if "anyone" in table(data, "server") and callers:
        yield Complaint(("server", "anyone"), NOT_WITH_CALLERS)


def check_keys(callers: Mapping[str, Caller]) -> Iterator[Complaint]:
    """No two callers have one key. For valid tables only, as keys may stand in files."""
    owners: dict[bytes, str] = {}
    for name, caller in callers.items():
        for digest in sorted(caller.digests):
            owner = owners.setdefault(digest, name)
            if owner != name:
                key = "key" if caller.key else "key_sha256"
                yield Complaint(
                    ("callers", name, key), f"caller {owner!r} has the same key - use another one"
                )


def check_networks(data: Tables) -> Iterator[Complaint]:
    """Identities that anyone in a network has: for warnings."""
    for name, caller in _callers(data).items():
        if "networks" not in caller:
            continue
        path = ("callers", name, "networks")
        others = frozenset(caller).intersection(IDENTITIES) - {"networks"}
        if not others:
            yield Complaint(
                path, "every program in these networks counts as this caller - add a key or a certificate"
            )
        elif others.intersection(OF_PROCESSES):
            yield Complaint(
                path, "on unix sockets there is no network address, so that uid and gid never fit here"
            )
    if "anyone" in table(data, "server"):
        yield Complaint(("server", "anyone"), OPEN_NETWORKS)


def _check_routes(data: Tables, name: str, caller: Tables) -> Iterator[Complaint]:
    known = {str(route.get("name") or default_name(route)) for route in _routes(data)}
    for path, route in _each(("callers", name, "routes"), caller.get("routes", [])):
        if isinstance(route, str) and route not in known:
            remedy = suggestion(route, known) or "known routes: " + (", ".join(sorted(known)) or "none")
            yield Complaint(path, f"there is no route {route!r} - {remedy}")


def _check_tokens(data: Tables, name: str, caller: Tables) -> Iterator[Complaint]:
    known = table(data, "credentials")
    for path, credential in _each(("callers", name, "tokens"), caller.get("tokens", [])):
        if isinstance(credential, str) and credential not in known:
            remedy = suggestion(credential, known) or "known credentials: " + (", ".join(known) or "none")
            yield Complaint(path, f"there is no credential {credential!r} - {remedy}")
        elif isinstance(credential, str) and table(known, credential).get("dpop") is True:
            yield Complaint(path, BOUND)


def _check_identities(callers: Mapping[str, Tables]) -> Iterator[Complaint]:
    owners: dict[Hashable, str] = {}
    alone: list[tuple[Network, str]] = []
    for name, caller in callers.items():
        for key in ("certificate", *OF_PROCESSES):
            for path, value in _each(("callers", name, key), caller.get(key, [])):
                owner = owners.setdefault(_comparable(key, value), name)
                if owner != name:
                    yield Complaint(path, f"caller {owner!r} has the same {key} - use another identity")
        if frozenset(caller).intersection(IDENTITIES) == {"networks"}:
            for path, value in _each(("callers", name, "networks"), caller["networks"]):
                with suppress(ValueError):
                    network = read_network(value if isinstance(value, str) else "")
                    yield from _check_overlap(path, network, name, alone)
                    alone.append((network, name))


def _comparable(key: str, value: object) -> Hashable:
    if key == "certificate":
        with suppress(ValueError):
            return read_certificate_name(value if isinstance(value, str) else "")
    return key, str(value)


def _check_overlap(
    path: Path, network: Network, name: str, others: list[tuple[Network, str]]
) -> Iterator[Complaint]:
    for other, owner in others:
        if owner != name and network.version == other.version and network.overlaps(other):
            yield Complaint(
                path, f"caller {owner!r} has addresses of this network - add another identity to one of them"
            )
            return


def _check_listeners(data: Tables, callers: Mapping[str, Tables]) -> Iterator[Complaint]:
    server = table(data, "server")
    listeners = list(_listeners(data))
    keys = frozenset[str]().union(*callers.values())
    for path, value in listeners:
        with suppress(ValueError):
            address = read_listen(value)
            if not address.is_local and (sentence := _far(server, callers, keys)):
                yield Complaint(path, sentence)
            if mode_of(value) != PRIVATE and keys.isdisjoint(OF_PROCESSES):
                yield Complaint(
                    (*path, "mode"), 'others may connect only where callers have uid or gid: expected "0600"'
                )
    has_unix = any(_is_unix(value) for _, value in listeners)
    tls = server.get("tls")
    has_authority = isinstance(tls, dict) and "client_ca" in tls
    for name, caller in callers.items():
        if "certificate" in caller and not has_authority:
            yield Complaint(
                ("callers", name, "certificate"),
                "no listener asks for certificates - set server.tls.client_ca",
            )
        for key in caller.keys() & OF_PROCESSES:
            if not has_unix:
                sentence = f"{key} is known on unix sockets only - add a unix socket to server.listen"
                yield Complaint(("callers", name, key), sentence)


def _far(server: Tables, callers: Mapping[str, Tables], keys: frozenset[str]) -> str:
    """What is wrong with a listener beyond this machine; empty if nothing."""
    if "anyone" in server:
        return ""
    if not callers:
        return FAR
    if "tls" in server or server.get("plaintext") is True or keys.isdisjoint(KEYS):
        return ""
    return IN_CLEAR


def _check_accounts(data: Tables) -> Iterator[Complaint]:
    if _callers(data):
        return
    for index, route in enumerate(route_list(data)):
        account = route.get("account") if isinstance(route, dict) else None
        if isinstance(account, dict) and "caller" in account:
            yield Complaint(
                ("routes", index, "account"), "there are no callers - define one as [callers.NAME]"
            )


def _listeners(data: Tables) -> Iterator[Place]:
    yield from _each(("server", "listen"), table(data, "server").get("listen", []))
    for index, route in enumerate(route_list(data)):
        if isinstance(route, dict) and "listen" in route:
            yield ("routes", index, "listen"), route["listen"]


def _is_unix(value: object) -> bool:
    with suppress(ValueError):
        return read_listen(value).is_unix
    return False


def _each(path: Path, value: object) -> Iterator[Place]:
    """The items of a list; one value is a list of one."""
    yield from (
        (((*path, index), item) for index, item in enumerate(value))
        if isinstance(value, list)
        else [(path, value)]
    )


def _callers(data: Tables) -> Mapping[str, Tables]:
    return {name: caller for name, caller in table(data, "callers").items() if isinstance(caller, dict)}


def _routes(data: Tables) -> Iterator[Tables]:
    return (route for route in route_list(data) if isinstance(route, dict))
