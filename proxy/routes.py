"""Which route a request belongs to. Pure.

Precedence: a listener of its own, then host and path, then host, then path; the longest path first.
A path is a prefix on segment borders: /crm matches /crm, /crm/, /crm?x and /crm/y; never /crmx.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar

BORDERS: Final = (b"", b"/", b"?")  # what may stand behind a prefix


class Place(Protocol):
    """Where a route is found: empty for "anywhere"."""

    @property
    def host(self) -> str: ...

    @property
    def prefix(self) -> bytes:
        """The path without a trailing slash; empty for all paths."""
        ...


R = TypeVar("R", bound=Place)


class RouteTable(Generic[R]):
    """As quick with a thousand routes as with one: a look-up for each length that a prefix has."""

    def __init__(self, routes: Iterable[R]) -> None:
        hosts: dict[str, dict[bytes, R]] = {"": {}}
        for route in routes:
            hosts.setdefault(route.host, {})[route.prefix] = route
        steps = {host: _steps(by_prefix) for host, by_prefix in hosts.items()}
        self._anywhere = steps.pop("")
        self._hosts = {host: own + self._anywhere for host, own in steps.items()}

    def match(self, host: str, path: bytes) -> R | None:
        """The route for a request to `host` (lower case, no port) with the target `path` (query and all)."""
        for length, routes in self._hosts.get(host, self._anywhere):
            route = routes.get(path[:length])
            if route is not None and path[length : length + 1] in BORDERS:
                return route
        return None


def _steps(by_prefix: dict[bytes, R]) -> list[tuple[int, dict[bytes, R]]]:
    """What to look up, in this order: the prefixes of each length."""
    lengths = sorted({len(prefix) for prefix in by_prefix}, reverse=True)
    return [(length, {p: route for p, route in by_prefix.items() if len(p) == length}) for length in lengths]


def is_prefix(prefix: bytes, path: bytes) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in BORDERS
