"""Which route a request belongs to. Pure.

Precedence: a listener of its own, then host and path, then host, then path; the longest path first.
A path is a prefix on segment borders: /crm matches /crm, /crm/, /crm?x and /crm/y; never /crmx.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


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
    def __init__(self, routes: Iterable[R]) -> None:
        self._routes = sorted(routes, key=_rank)

    def match(self, host: str, path: bytes) -> R | None:
        """The route for a request to `host` (lower case, no port) with the target `path` (query and all)."""
        for route in self._routes:
            if (not route.host or route.host == host) and is_prefix(route.prefix, path):
                return route
        return None


def _rank(route: Place) -> tuple[bool, bool, int]:
    return (not route.host, not route.prefix, -len(route.prefix))


def is_prefix(prefix: bytes, path: bytes) -> bool:
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/", b"?")
