"""Load the configuration file, or report every fault in it at once, each with its line and column.

A wrong value is shown at the value, an unknown key at the key, a missing key at its table's header or
opening brace (at the start of the file for a key outside all tables).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from proxy.config.admin_checks import advise_admin, check_admin
from proxy.config.callbacks import check_callbacks
from proxy.config.caller_checks import check_callers, check_keys, check_networks
from proxy.config.checks import check, check_patterns, check_pkce, check_secrets
from proxy.config.fault_messages import Complaint, complaints
from proxy.config.model import Config
from proxy.config.plain_names import advise_names
from proxy.config.probes import advise_probes
from proxy.config.references import LoadContext
from proxy.config.schema import schema
from proxy.config.shared_cookies import check_cookies
from proxy.config.source import Source
from proxy.errors import ConfigError, Fault

__all__ = ["Loaded", "find_config", "load", "schema"]

PLACES: Final = (Path("config.toml"), Path("/etc/token-proxy/config.toml"))


@dataclass(frozen=True, slots=True)
class Loaded:
    config: Config
    warnings: list[Fault]
    advice: list[Fault]  # what `check` says beside: it works, but may surprise


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


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Raises ConfigError."""
    source = Source.read(path)
    config, found = _validate(source.data, LoadContext(path.absolute().parent, environ))
    found += [*check(source.data), *check_callers(source.data), *check_admin(source.data)]
    if config is not None:
        found += check_keys(config.callers)
    if config is None or found:
        raise ConfigError(str(path), _faults(source, found))
    weak = check_secrets, check_pkce, check_networks, check_patterns
    warnings = _faults(source, [each for look in weak for each in look(source.data)])
    surprises = check_cookies, advise_names, advise_admin, check_callbacks
    surprising = [each for look in surprises for each in look(source.data)]
    advice = _faults(source, [*surprising, *advise_probes(config)])
    return Loaded(config.model_copy(update={"path": path}), warnings, advice)


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
