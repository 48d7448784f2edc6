"""Rules about `mcp` and `resource` of [credentials.NAME]; each is a validator (see base.Table)."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationInfo

from proxy.config.base import MissingKey
from proxy.config.grants import REQUIREMENTS, requirements_of

REGISTERING: Final = [name for name, grant in REQUIREMENTS.items() if grant.registers_for]


def goes_with_the_grant(value: str | None, info: ValidationInfo) -> str | None:
    """Of mcp."""
    name = info.data.get("grant", "")
    asks = requirements_of(name)
    if value is not None and asks is not None and not asks.registers_for:
        grants = " or ".join(f'"{each}"' for each in REGISTERING)
        raise ValueError(f"mcp goes with grant = {grants} only: expected one of these, or an issuer instead")
    return value


def is_registered(info: ValidationInfo) -> bool:
    """Whether the client is registered, so that no secret is configured. Of client_auth.

    Raises MissingKey for a secret of no client, or without a server to send it to.
    """
    if info.data.get("mcp") is None:
        return False
    has_secret = info.data.get("client_secret") is not None
    if has_secret and info.data.get("issuer", "?") is None and info.data.get("token_endpoint") is None:
        raise MissingKey("issuer is missing - else the MCP server chooses where client_secret is sent")
    if info.data.get("client_id", "?"):
        return False
    if has_secret:
        raise MissingKey("client_id is missing - client_secret is that of a client")
    return True


def names_its_resources(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Of resource."""
    name = info.data.get("grant", "")
    asks = requirements_of(name)
    if value and asks is not None and asks.server == "none":
        raise ValueError(f'grant = "{name}" has no authorization server - leave the key out')
    for params in ("authorize_params", "token_params"):
        if value and "resource" in info.data.get(params, ()):
            raise ValueError(f"{params} has a resource too: expected only one of the two")
    return value
