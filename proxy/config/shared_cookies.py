"""Routes whose cookies meet in a caller's cookie jar: for `check`. Pure.

A jar tells hosts and paths apart, ports never (RFC 6265 section 8.5). What a route's upstream sets is limited
to that route's path (http/cookies.py): that is not enough where two routes are on one host by port, or where
one route's path lies within another's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from proxy.config.address import Upstream, read_upstream
from proxy.config.fault_messages import Complaint
from proxy.config.listeners import read_listen
from proxy.config.model import Server
from proxy.config.route import default_name

ONE_HOST: Final = frozenset({"127.0.0.1", "::1"})  # to callers that say localhost


class _Place(NamedTuple):
    number: int
    name: str
    listener: str  # the host of a listener of its own
    host: str
    path: str  # without a slash at its end
    upstream: Upstream


def check_cookies(data: Mapping[str, Any]) -> Iterator[Complaint]:
    """Where two routes to different servers share cookies."""
    places = list(_places(data))
    server = data.get("server")
    listen = server.get("listen") if isinstance(server, dict) else None
    texts = listen if isinstance(listen, list) else [listen or Server.model_fields["listen"].default]
    shared = {_host_of(text) for text in texts}
    for place in places:
        other = _beside(place, places, shared) if place.listener else _around(place, places)
        if other is None:
            continue
        apart = f'such as 127.0.0.2 or host = "{place.name}.localhost"'
        if place.listener:
            sentence = f"it shares cookies with route {other.name!r}, for ports don't separate them"
            yield Complaint(("routes", place.number, "listen"), f"{sentence} - use another host, {apart}")
        else:
            sentence = f"it gets the cookies of route {other.name!r}, whose path encloses this one"
            key = "path" if place.path else "host"
            yield Complaint(("routes", place.number, key), f"{sentence} - use another host, {apart}")


def _places(data: Mapping[str, Any]) -> Iterator[_Place]:
    """The routes whose place and upstream can be read; the others have their complaint."""
    routes = data.get("routes")
    for index, route in enumerate(routes if isinstance(routes, list) else []):
        if isinstance(route, dict):
            with suppress(ValueError):
                path, host = str(route.get("path", "")), str(route.get("host", "")).lower()
                upstream = read_upstream(str(route.get("upstream")))
                listener = _host_of(route["listen"]) if "listen" in route else ""
                name = str(route.get("name") or default_name(route))
                yield _Place(index, name, listener, _one_name(host), path.rstrip("/"), upstream)


def _host_of(text: object) -> str:
    """The host of a listener; for a unix socket its path, on which nothing else is."""
    with suppress(ValueError):
        address = read_listen(text)
        return str(address) if address.is_unix else _one_name(address.host)
    return ""


def _one_name(host: str) -> str:
    return "localhost" if host in ONE_HOST else host


def _differ(one: Upstream, other: Upstream) -> bool:
    return (one.host, one.port, one.unix_path) != (other.host, other.port, other.unix_path)


def _beside(place: _Place, places: list[_Place], shared: set[str]) -> _Place | None:
    """Another route on the host of this one's listener, before it in the file or on a shared listener."""
    for other in places:
        is_listener = other.listener == place.listener and other.number < place.number
        is_shared = not other.listener and place.listener in shared and other.host in {"", place.listener}
        if (is_listener or is_shared) and _differ(place.upstream, other.upstream):
            return other
    return None


def _around(place: _Place, places: list[_Place]) -> _Place | None:
    """Another route whose path encloses this one's, for callers that reach both by one name."""
    by_name = [other for other in places if not other.listener]
    if place.host and any((other.host, other.path) == (place.host, "") for other in by_name):
        by_name = [other for other in by_name if other.host]  # no other route is reached by that host
    for other in by_name:
        encloses = place.path.startswith(other.path + "/")
        if encloses and other.host in {"", place.host} and _differ(place.upstream, other.upstream):
            return other
    return None
