"""Which environment variables a file refers to, and rules about those that `exec` sets. Pure.

As in checks.py, a value of the wrong type is skipped: its complaint comes from the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from proxy.config.fault_messages import Complaint
from proxy.config.positions import Path
from proxy.config.route import default_name
from proxy.config.route_variables import default_variable
from proxy.config.tables import Tables, route_list

_FREE_TABLES: Final = frozenset(  # the user chooses their keys: `env` there is a name like others
    {"authorize_params", "claims", "form", "headers", "json", "token_params"}
)
_PROGRAMS: Final = ("notify",)  # the table whose `command` is a key: it gives no secret


def check_variables(data: Tables) -> Iterator[Complaint]:
    """Variables given by `env` that another route has too, or that the configuration itself reads.

    Two routes whose default variables are the same are no fault here: only `exec` minds.
    """
    routes = {index: route for index, route in enumerate(route_list(data)) if isinstance(route, dict)}
    variables = {index: _variable(route) for index, route in routes.items()}
    read = variables_read(data)
    for index, variable in variables.items():
        if variable is None or "env" not in routes[index]:
            continue
        path = ("routes", index, "env")
        other = next((at for at, each in variables.items() if each == variable and at != index), None)
        if other is not None:
            name = _name(routes[other])
            yield Complaint(path, f"route {name!r} has the variable {variable} too: expected another name")
        if variable in read:
            yield Complaint(path, f"the configuration itself reads {variable}: expected another name")


def _variable(route: Tables) -> str | None:
    given = route.get("env")
    if given is not None:
        return given if isinstance(given, str) else None
    name = _name(route)
    return default_variable(name) if isinstance(name, str) else None


def _name(route: Tables) -> object:
    return route["name"] if "name" in route else default_name(route)


def variables_read(data: Tables) -> frozenset[str]:
    """The names in all `{ env = "NAME" }` of the file: `exec` takes them out of a program's environment."""
    return frozenset(each.name for each in references(data) if each.kind == "env")


class Reference(NamedTuple):
    """A value that is somewhere else: `{ KIND = "NAME" }` at `path`. Of a command: its program."""

    path: Path
    kind: str
    name: str


def references(data: Any, path: Path = ()) -> Iterator[Reference]:
    """All in a document."""
    if isinstance(data, dict):
        for kind in ("env", "file", "keyring", "command"):
            name = data.get(kind)
            if kind == "command" and isinstance(name, list) and name:
                name = name[0]
            is_key = path == _PROGRAMS or (path and path[-1] in _FREE_TABLES)
            if len(data) == 1 and isinstance(name, str) and not is_key:
                yield Reference(path, kind, name)
        for key, each in data.items():
            yield from references(each, (*path, key))
    elif isinstance(data, list):
        for index, each in enumerate(data):
            yield from references(each, (*path, index))
