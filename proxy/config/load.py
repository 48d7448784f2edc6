"""Load the configuration file, or report every fault in it at once, each with its line and column.

A wrong value is shown at the value, an unknown key at the key, a missing key at its table's header or
opening brace (at the start of the file for a key outside all tables).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from proxy.config.admin_checks import advise_admin, check_admin
from proxy.config.callbacks import check_callbacks
from proxy.config.caller_checks import check_callers, check_keys, check_networks
from proxy.config.checks import check, check_patterns, check_pkce, check_secrets
from proxy.config.fault_messages import Complaint, complaints
from proxy.config.files import Files
from proxy.config.model import Config
from proxy.config.plain_names import advise_names
from proxy.config.positions import Path as KeyPath
from proxy.config.references import LoadContext
from proxy.config.schema import schema
from proxy.config.shared_cookies import check_cookies
from proxy.config.source import Source
from proxy.errors import ConfigError, Fault
from proxy.secret import Secret

__all__ = ["Loaded", "find_config", "load", "schema"]

PLACES: Final = (Path("config.toml"), Path("/etc/token-proxy/config.toml"))


@dataclass(frozen=True, slots=True)
class Loaded:
    config: Config
    warnings: list[Fault]
    advice: list[Fault]  # what `check` says beside: it works, but may surprise
    contents: Mapping[Path, Secret] = field(default_factory=dict)  # of the files with secrets, as read
    source: Source | None = field(default=None, repr=False)  # None: a configuration made in code
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    def again(self, files: Files) -> Loaded:
        """The same text with other contents of the files that it names. Raises ConfigError."""
        if self.source is None:
            return self
        return of_source(self.source, self.config.path, self.environ, files)

    def fault(self, path: KeyPath, sentence: str) -> Fault:
        """A fault of the value at this path, found after loading."""
        if self.source is None:
            return Fault(1, 1, sentence)
        offset = self.source.positions.of_value(path)
        return self.source.faults([(offset, sentence)], ())[0]


def find_config(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The given file, else the first that exists of $TOKEN_PROXY_CONFIG and PLACES. Raises ConfigError."""
    if given is not None:
        return given
    named = environ.get("TOKEN_PROXY_CONFIG")
    places = (Path(named), *PLACES) if named else PLACES
    for place in places:
        if place.exists():
            return place
    variable = f"$TOKEN_PROXY_CONFIG ({named or 'not set'})"
    tried = ", ".join((variable, *map(str, PLACES)))
    raise ConfigError(
        "config.toml", [Fault(1, 1, f"no configuration file found: tried {tried} - give one with -c FILE")]
    )


def load(path: Path, environ: Mapping[str, str] = os.environ, files: Files | None = None) -> Loaded:
    """Raises ConfigError."""
    return of_source(Source.read(path), path, environ, files or Files())


def of_source(source: Source, path: Path, environ: Mapping[str, str], files: Files) -> Loaded:
    """Raises ConfigError. `path`: of the file that has, or had, this text."""
    config, found = _validate(source.data, LoadContext(path.absolute().parent, environ, files))
    found += [*check(source.data), *check_callers(source.data), *check_admin(source.data)]
    if config is not None:
        found += check_keys(config.callers)
    if config is None or found:
        raise ConfigError(str(path), _faults(source, found))
    weak = check_secrets, check_pkce, check_networks, check_patterns
    warnings = _faults(source, [each for look in weak for each in look(source.data)])
    surprises = check_cookies, advise_names, advise_admin, check_callbacks
    advice = _faults(source, [each for look in surprises for each in look(source.data)])
    config = config.model_copy(update={"path": path})
    return Loaded(config, warnings, advice, files.contents, source, environ)


def _validate(data: dict[str, Any], context: LoadContext) -> tuple[Config | None, list[Complaint]]:
    try:
        return Config.model_validate(data, context=context), []
    except ValidationError as error:
        return None, complaints(error.errors(include_url=False, include_input=False), data)


def _faults(source: Source, found: Iterable[Complaint]) -> list[Fault]:
    found = list(found)
    positions = source.positions
    placed = [
        ((positions.of_key if each.about == "key" else positions.of_value)(each.path), each.sentence)
        for each in found
    ]
    return sorted(set(source.faults(placed, [each.path for each in found if each.unknown])))
