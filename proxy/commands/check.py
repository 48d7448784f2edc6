"""`token-proxy check`: what the configuration means, as understood."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator

from proxy.admin.summary import account_of, configured, place_of_route
from proxy.commands.described import described
from proxy.commands.terminal import grid
from proxy.config.fault_messages import Complaint
from proxy.config.load import Loaded
from proxy.config.model import Config, Route
from proxy.config.policy import PolicyTable
from proxy.errors import StoreError
from proxy.generation import own_names
from proxy.store.open import check_url

Say = Callable[[str], object]
COLUMNS = ("URL", "UPSTREAM", "TOKEN", "MAY BE USED FOR")


def check_store(config: Config) -> Iterator[Complaint]:
    """A store URL that `run` would refuse."""
    try:
        check_url(config.store.url.reveal())
    except StoreError as error:
        yield Complaint(("store", "url"), str(error))


def report(loaded: Loaded, say: Say, *, verbose: bool) -> None:
    """Say that there are no faults; `verbose`: and what the configuration means."""
    config = loaded.config
    counts = [
        _counted(config.credentials, "credential"),
        _counted(config.routes, "route"),
        *([_counted(config.callers, "caller")] if config.callers else []),
    ]
    say(f"{config.place}: no faults ({', '.join(counts)})")
    if not verbose:
        return
    for line in described(loaded):
        say(line)
    if config.routes:
        say("\n# Routes, in the order in which they are tried")
        say(grid([COLUMNS, *_rows(config)], sys.stdout))


def _counted(things: Iterable[object], noun: str) -> str:
    count = len(list(things))
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _rows(config: Config) -> Iterator[tuple[str, ...]]:
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
