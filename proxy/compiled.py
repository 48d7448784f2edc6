"""Whether the data path is compiled: told by what is loaded, not by what was to be built (hatch_build.py)."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Final, NamedTuple

PACKAGES: Final = ("proxy.http", "proxy.relay", "proxy.sockets")  # with all their modules
MODULES: Final = (
    "proxy.clock",
    "proxy.hosts",
    "proxy.http.scanner",
    "proxy.observe.request_lines",
    "proxy.observe.request_metrics",
    "proxy.routes",
)
_NOTE: Final = "extra_metadata/not-compiled.txt"


class Compiled(NamedTuple):
    modules: int
    of: int

    @property
    def wholly(self) -> bool:
        return self.modules == self.of

    @property
    def sentence(self) -> str:
        if self.wholly:
            return "compiled"
        if self.modules:
            return f"partly compiled: {self.modules} of {self.of} modules; install it again"
        reason = _reason()
        return f"not compiled: {reason}" if reason else "not compiled"


@cache  # it takes 13 ms, and a process does not change
def look() -> Compiled:
    """A module counts as it is loaded, or as it would be."""
    # a set, as iter_modules finds the scanner too where it is compiled
    found = [_is_compiled(name) for name in set(_names())]
    return Compiled(sum(found), len(found))


def about() -> str:
    """The version, and what it runs on, in a line."""
    return f"{version('token-proxy')} ({look().sentence}, Python {platform.python_version()})"


def _names() -> Iterator[str]:
    yield from MODULES
    for package in PACKAGES:
        yield package
        spec = find_spec(package)
        folders = spec.submodule_search_locations if spec else None
        yield from (f"{package}.{module.name}" for module in iter_modules(folders or ()))


def _is_compiled(name: str) -> bool:
    spec = find_spec(name)
    return bool(spec and spec.origin and spec.origin.endswith(tuple(EXTENSION_SUFFIXES)))


def _reason() -> str | None:
    """As it was noted when the package was built. None: it was compiled then, or nothing was noted."""
    try:
        note = distribution("token-proxy").read_text(_NOTE)
    except PackageNotFoundError:
        return None
    return note.strip() if note else None
