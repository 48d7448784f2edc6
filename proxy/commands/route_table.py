"""The routes of a configuration in the order in which they are tried, for `check -v`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from proxy.admin.summary import account_of, configured, place_of_route
from proxy.commands.terminal import grid
from proxy.config.model import Config, Route
from proxy.config.policy import PolicyTable
from proxy.generation import own_names

COLUMNS: Final = ("URL", "UPSTREAM", "TOKEN", "MAY BE USED FOR")


LISTED: Final = 20  # routes of the short table; more would scroll the first line away


def route_table(config: Config) -> str:
    return grid([COLUMNS, *_rows(config)], sys.stdout)


def short_route_table(config: Config) -> str:
    """Without policies, and the first routes only."""
    rows = [(place, f"→ {upstream}", token) for place, upstream, token, _ in _rows(config)]
    more = len(rows) - LISTED
    lines = [grid(rows[:LISTED], sys.stdout, indent=2)]
    return "\n".join([*lines, f"  and {more} more routes, which -v shows"] if more > 0 else lines)


def _rows(config: Config) -> Iterator[tuple[str, str, str, str]]:
    listening, accepted = configured(config), list(own_names(config))
    for route in sorted(config.routes, key=_precedence):
        place = place_of_route(route, listening, accepted)
        yield place, str(route.upstream), f"{route.credential}/{account_of(route)}", _policy(route)


def _precedence(route: Route) -> tuple[bool, bool, bool, int]:
    """As in proxy/routes.py: own listener, host and path, host, path; the longest path first."""
    path = len(route.path or "")
    return route.listen is None, not (route.host and route.path), route.host is None, -path


def _policy(table: PolicyTable) -> str:
    parts = [" ".join(table.methods) or "no method"] if table.methods is not None else []
    parts += [f"allow {' '.join(table.allow) or 'nothing'}"] if table.allow is not None else []
    parts += [f"deny {' '.join(table.deny)}"] if table.deny else []
    return ", ".join(parts) or "everything"
