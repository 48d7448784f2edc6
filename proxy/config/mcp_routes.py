"""The routes that `mcp` makes. Pure: parsed TOML in, parsed TOML out.

They are added before anything is checked, so that every rule about routes holds for them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from proxy.config.fault_messages import Complaint
from proxy.config.route import default_name
from proxy.config.tables import Tables, route_list, table
from proxy.config.values import NAME, read_mcp_server


def with_routes(data: dict[str, Any]) -> dict[str, Any]:
    """The tables, with a route /NAME for each credential with `mcp` that no route names."""
    routes = data.get("routes", [])
    if not isinstance(routes, list):
        return data
    made = [_route(name, url) for name, url in _made(data)]
    return {**data, "routes": [*routes, *made]} if made else data


def check_routes(data: Tables) -> Iterator[Complaint]:
    """Credentials whose route can't be made, as another one has its place. `data`: as for `with_routes`."""
    for name, _ in _without_route(data):
        if name in _taken(data):
            yield Complaint(
                ("credentials", name, "mcp"),
                f"its route would be /{name}, but another route has that name or path - expected a route of "
                f'its own: [[routes]] with credential = "{name}"',
            )


def at_their_credentials(complaints: Iterable[Complaint], data: Tables) -> list[Complaint]:
    """The same, with those of a route of `with_routes` at the key that made it. `data`: without them."""
    made = dict(enumerate((name for name, _ in _made(data)), start=len(route_list(data))))
    return [_moved(each, made) for each in complaints]


def _moved(complaint: Complaint, made: dict[int, str]) -> Complaint:
    match complaint.path:
        case ("routes", int(index), *_) if index in made:
            return replace(complaint, path=("credentials", made[index], "mcp"), about="value", missing="")
    return complaint


def _made(data: Tables) -> Iterator[tuple[str, str]]:
    """The names and URLs of the credentials with a route to make."""
    taken = _taken(data)
    return ((name, url) for name, url in _without_route(data) if name not in taken)


def _taken(data: Tables) -> set[str]:
    routes = [route for route in route_list(data) if isinstance(route, dict)]
    names = {str(route.get("name") or default_name(route)) for route in routes}
    return names | {str(route.get("path", ""))[1:] for route in routes if "host" not in route}


def _without_route(data: Tables) -> Iterator[tuple[str, str]]:
    """Those with a valid name and URL: others have a fault already."""
    named = [route.get("credential") for route in route_list(data) if isinstance(route, dict)]
    for name, credential in table(data, "credentials").items():
        if isinstance(credential, dict) and "mcp" in credential and name not in named:
            with suppress(ValueError):
                url = read_mcp_server(credential["mcp"])
                if NAME.fullmatch(name):
                    yield name, url


def _route(name: str, url: str) -> dict[str, object]:
    return {"name": name, "path": f"/{name}", "upstream": url, "credential": name}
