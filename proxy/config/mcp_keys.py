"""Rules about resource indicators of [credentials.NAME]; each is a validator (see base.Table)."""

from __future__ import annotations

from pydantic import ValidationInfo

from proxy.config.grants import requirements_of


def names_its_resources(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Of resource."""
    name = info.data.get("grant", "")
    asks = requirements_of(name)
    if value and asks is not None and asks.server == "none":
        raise ValueError(f'grant = "{name}" has no authorization server - leave the key out')
    for table in ("authorize_params", "token_params"):
        if value and "resource" in info.data.get(table, ()):
            raise ValueError(f"{table} has a resource too: expected only one of the two")
    return value
