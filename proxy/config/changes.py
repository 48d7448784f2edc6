"""What changes between two configurations, and which changes a running process can't take up. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Final

from proxy.config.fault_messages import Complaint
from proxy.config.model import Config
from proxy.config.positions import Path

RESTART: Final = (
    "a reload can't change this, and nothing of it is applied: expected the value as it was, or a restart"
)
# The listeners of [server] and the store are opened once, and the open files shared out.
_SERVER: Final = ("listen", "admin", "health", "quit", "health_accounts", "state_dir")
_LIMITS: Final = ("connections", "admin_connections", "health_connections")
_TLS: Final = ("tls", "admin_tls")


def needs_restart(old: Config, new: Config) -> list[Complaint]:
    """A complaint for each change that only a restart applies."""
    return [Complaint(path, RESTART) for path in _fixed(old, new)]


def _fixed(old: Config, new: Config) -> Iterator[Path]:
    for name in _SERVER:
        if getattr(old.server, name) != getattr(new.server, name):
            yield "server", name
    for name in _TLS:  # other files will do, but a listener can't begin or cease to have TLS
        if (getattr(old.server, name) is None) != (getattr(new.server, name) is None):
            yield "server", name
    for name in type(old.store).model_fields:
        if getattr(old.store, name) != getattr(new.store, name):
            yield "store", name
    for name in _LIMITS:
        if getattr(old.limits, name) != getattr(new.limits, name):
            yield "limits", name


@dataclass(frozen=True, slots=True)
class Changes:
    """Names, in alphabetical order."""

    routes_added: tuple[str, ...] = ()
    routes_removed: tuple[str, ...] = ()
    routes_changed: tuple[str, ...] = ()
    credentials_added: tuple[str, ...] = ()
    credentials_removed: tuple[str, ...] = ()
    credentials_changed: tuple[str, ...] = ()
    callers_added: tuple[str, ...] = ()
    callers_removed: tuple[str, ...] = ()
    callers_changed: tuple[str, ...] = ()
    tables_changed: tuple[str, ...] = ()  # [server], [limits], [log] and the like

    def fields(self) -> dict[str, str]:
        """For the log: what is not empty."""
        named = {each.name: ", ".join(getattr(self, each.name)) for each in fields(self)}
        return {name: text for name, text in named.items() if text}

    @property
    def text(self) -> str:
        """For people."""
        parts = [f"{name.replace('_', ' ')}: {text}" for name, text in self.fields().items()]
        return "; ".join(parts) or "nothing has changed"


_NAMED: Final = frozenset({"routes", "credentials", "callers"})
_OF_FILE: Final = frozenset({"path", "digest"})


def changes(old: Config, new: Config) -> Changes:
    tables = (
        name
        for name in type(new).model_fields
        if name not in _NAMED | _OF_FILE and getattr(old, name) != getattr(new, name)
    )
    return Changes(
        **_compared(
            "routes", {each.name: each for each in old.routes}, {each.name: each for each in new.routes}
        ),
        **_compared("credentials", old.credentials, new.credentials),
        **_compared("callers", old.callers, new.callers),
        tables_changed=tuple(sorted(tables)),
    )


def _compared(kind: str, old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    both = old.keys() & new.keys()
    return {
        f"{kind}_added": tuple(sorted(new.keys() - old.keys())),
        f"{kind}_removed": tuple(sorted(old.keys() - new.keys())),
        f"{kind}_changed": tuple(sorted(name for name in both if old[name] != new[name])),
    }
