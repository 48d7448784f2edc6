"""Rules about `mcp` and `resource` of [credentials.NAME]; each is a validator (see base.Table)."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationInfo

from proxy.config.base import MissingKey
from proxy.config.grants import REQUIREMENTS, requirements_of

_SENT: Final = frozenset({"client_secret", "client_assertion"})  # a server that gets them can use them
_OF_A_CLIENT: Final = ("client_secret", "client_assertion", "client_key")
REGISTERING: Final = [name for name, grant in REQUIREMENTS.items() if grant.registers_for]


def goes_with_the_grant(value: str | None, info: ValidationInfo) -> str | None:
    """Of mcp."""
    name = info.data.get("grant", "")
    asks = requirements_of(name)
    if value is not None and asks is not None and not asks.registers_for and asks.server != "none":
        grants = " or ".join(f'"{each}"' for each in REGISTERING)
        raise ValueError(f"mcp goes with grant = {grants} only: expected one of these, or an issuer instead")
    return value


def is_registered(info: ValidationInfo) -> bool:
    """Whether the client is registered, so that nothing of it is configured. Of client_auth.

    Raises MissingKey for what only a configured client has, or without a server to send it to.
    """
    if info.data.get("mcp") is None:
        return False
    given = [key for key in _OF_A_CLIENT if info.data.get(key) is not None]
    has_server = any(info.data.get(key, "?") is not None for key in ("issuer", "token_endpoint"))
    if not has_server and _SENT.intersection(given):
        raise MissingKey(f"issuer is missing - else the MCP server chooses where {given[0]} is sent")
    if info.data.get("client_id", "?"):
        return False
    if given:
        raise MissingKey(f"client_id is missing - {given[0]} is that of a client")
    return True


def names_its_resources(value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Of resource."""
    for params in ("authorize_params", "token_params"):
        if value and "resource" in info.data.get(params, ()):
            raise ValueError(f"{params} has a resource too: expected only one of the two")
    return value
