"""What several keys of the configuration must agree on. Pure: parts in, complaints out.

Each check is given the parts that are valid by themselves, so that one broken table hides no other fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import chain
from typing import Final

from proxy.config.address import Address
from proxy.config.model import Credential, Route, Server
from proxy.config.positions import Path

Complaint = tuple[Path, str]  # where in the file, and the sentence

NO_CALLERS: Final = (
    "anybody on the network could use the tokens - this version does not know its callers yet, "
    "so listen on loopback or a unix socket"
)


def check_server(server: Server) -> Iterator[Complaint]:
    for index, address in enumerate(server.listen):
        if not address.is_local:
            yield ("server", "listen", index), NO_CALLERS
    if not server.admin.is_local:
        yield ("server", "admin"), NO_CALLERS
    if server.admin.is_unix and server.public_url is None:
        yield ("server",), "public_url is missing - a browser can't reach a unix socket by itself"


def check_store(url: str) -> Iterator[Complaint]:
    where = ("store", "url")
    if url.startswith(("postgresql:", "redis:", "rediss:")):
        yield where, "shared stores are not in this version of token-proxy - sqlite:NAME is meant"
    elif url != "memory:" and not (url.startswith("sqlite:") and len(url) > len("sqlite:")):
        yield where, "not a store - sqlite:NAME or memory: is meant"


def check_credential(name: str, credential: Credential) -> Iterator[Complaint]:
    where: Path = ("credentials", name)
    grant = credential.grant
    if credential.issuer is None:
        if credential.token_endpoint is None:
            yield where, "issuer is missing - or token_endpoint, where there is no discovery"
        if grant == "authorization_code" and credential.authorization_endpoint is None:
            yield where, "issuer is missing - or authorization_endpoint, where there is no discovery"
    if grant == "refresh_token" and credential.refresh_token is None:
        yield where, 'refresh_token is missing - the grant wants one to begin with, { file = "…" }'
    if grant != "refresh_token" and credential.refresh_token is not None:
        yield (
            (*where, "refresh_token"),
            'is only for grant = "refresh_token" - leave it out, or change the grant',
        )
    yield from _check_client(where, credential)


def _check_client(where: Path, credential: Credential) -> Iterator[Complaint]:
    if credential.authentication == "none":
        if credential.client_secret is not None:
            yield (
                (*where, "client_auth"),
                "none sends no secret - leave client_secret out, or change client_auth",
            )
        elif credential.grant == "client_credentials" and credential.client_auth is None:
            yield where, "client_secret is missing - the grant client_credentials wants one"
    elif credential.client_secret is None:
        yield (*where, "client_auth"), f'{credential.client_auth} wants a client_secret - give one, or "none"'


def check_routes(
    routes: Iterable[tuple[int, Route]], credentials: Mapping[str, Credential | None]
) -> Iterator[Complaint]:
    """`credentials` holds every declared name; None for one that is broken itself."""
    names: dict[str, int] = {}
    places: dict[object, int] = {}
    for index, route in routes:
        where: Path = ("routes", index)
        yield from _check_route(where, route, credentials)
        if names.setdefault(route.name, index) != index:
            yield (*where, "name"), f"a second route is called {route.name!r} - names are unique"
        place = route.listen or (route.host, route.path)
        if places.setdefault(place, index) != index:
            yield (
                where,
                f"the same place as route {names.get(route.name, 0) + 1} - each path, host or listener once",
            )


def _check_route(
    where: Path, route: Route, credentials: Mapping[str, Credential | None]
) -> Iterator[Complaint]:
    if route.listen is not None and (route.path or route.host):
        yield (*where, "listen"), "everything on a listener is the route's - leave path and host out"
    if route.listen is None and not route.path and not route.host:
        yield where, "path is missing - or host, or listen"
    if route.listen is not None and not route.listen.is_local:
        yield (*where, "listen"), NO_CALLERS
    if route.upstream.scheme == "http" and not route.upstream.is_local and not route.plaintext:
        yield (
            (*where, "upstream"),
            "http would show the token to the network - https is meant, or plaintext = true",
        )
    if route.upstream.scheme == "http" and route.tls is not None:
        yield (*where, "tls"), "the upstream is not https - leave tls out"
    if route.tls is not None and (route.tls.cert is None) != (route.tls.key is None):
        yield (*where, "tls"), "cert and key go together - give both, or none"
    yield from _check_credential_of(where, route, credentials)


def _check_credential_of(
    where: Path, route: Route, credentials: Mapping[str, Credential | None]
) -> Iterator[Complaint]:
    if route.credential not in credentials:
        close = get_close_matches(route.credential, credentials, 1)
        meant = f"did you mean {close[0]!r}?" if close else "add [credentials.NAME]"
        yield (*where, "credential"), f"there is no credential {route.credential!r} - {meant}"
        return
    credential = credentials[route.credential]
    if credential and credential.grant != "authorization_code" and route.account != "default":
        yield (*where, "account"), f"grant {credential.grant} has one account - leave account out"


def check_listeners(server: Server, routes: Iterable[tuple[int, Route]]) -> Iterator[Complaint]:
    """Two listeners can't share an address; port 0 is never shared."""
    own = ((("routes", index, "listen"), route.listen) for index, route in routes if route.listen)
    shared = ((("server", "listen", index), address) for index, address in enumerate(server.listen))
    taken: set[Address] = {server.admin}
    for where, address in chain[tuple[Path, Address]](shared, own):
        if address in taken and (address.port or address.is_unix):
            yield where, f"{address} is used twice - each listener has an address of its own"
        taken.add(address)
