"""The route table: find the route of a request. Pure.

Precedence: a listener of its own, then host and path, then host, then path; the longest path first.
A path matches as a prefix of whole segments: /crm matches /crm, /crm/, /crm?x and /crm/y, but not /crmx.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar

BORDERS: Final = (b"", b"/", b"?")  # what may follow a prefix


class Place(Protocol):
    """The host and path prefix of a route; empty matches any."""

    @property
    def host(self) -> str: ...

    @property
    def prefix(self) -> bytes:
        """The path without a trailing slash; empty for all paths."""
        ...


R = TypeVar("R", bound=Place)


class RouteTable(Generic[R]):
    """Matches with one dict look-up per distinct length of prefixes, whatever the number of routes."""

    def __init__(self, routes: Iterable[R]) -> None:
        hosts: dict[str, dict[bytes, R]] = {"": {}}
        for route in routes:
            hosts.setdefault(route.host, {})[route.prefix] = route
        steps = {host: _steps(by_prefix) for host, by_prefix in hosts.items()}
        self._anywhere = steps.pop("")
        self._hosts = {host: own + self._anywhere for host, own in steps.items()}

    def match(self, host: str, path: bytes) -> R | None:
        """The route for `host` (lower case, no port) and the target `path` (query included)."""
        for length, routes in self._hosts.get(host, self._anywhere):
            route = routes.get(path[:length])
            if route is not None and path[length : length + 1] in BORDERS:
                return route
        return None


def _steps(by_prefix: dict[bytes, R]) -> list[tuple[int, dict[bytes, R]]]:
    """The prefixes grouped by length, longest first."""
    lengths = sorted({len(prefix) for prefix in by_prefix}, reverse=True)
    return [(length, {p: route for p, route in by_prefix.items() if len(p) == length}) for length in lengths]


def is_prefix(prefix: bytes, path: bytes) -> bool:
    """Whether `prefix` covers `path` by whole segments."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in BORDERS
