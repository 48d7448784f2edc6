"""What discovery and registration add to a credential with `mcp`: the configuration can't know it.

It is stored with the tokens that it led to, so that they are sent to no other server or client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.secret import Secret

RENEW_SHARE: Final = 0.2  # in the last part of a secret's life another client is registered ...
RENEW_BEFORE: Final = 7 * 86400.0  # ... at the earliest this many seconds before its end


@dataclass(frozen=True, slots=True)
class Registration:
    """A client registered at an authorization server (RFC 7591 section 3.2.1). Times are Unix seconds."""

    client_id: str
    client_secret: Secret | None
    auth_method: str  # of config.credential.ClientAuth
    registered_at: float
    expires_at: float | None  # of the secret; None: never
    place: str  # of its record in the store

    @property
    def due_at(self) -> float | None:
        """From when on new tokens get another client; None: never."""
        if self.expires_at is None:
            return None
        share = RENEW_SHARE * (self.expires_at - self.registered_at)
        return self.expires_at - min(share, RENEW_BEFORE)


@dataclass(frozen=True, slots=True)
class Found:
    """An MCP server's authorization server, and the client there."""

    issuer: str  # "": it has no metadata, only `endpoints`
    resource: str  # as the MCP server names itself (RFC 9728 section 2)
    scopes: tuple[str, ...] = ()  # to request, where none are configured
    endpoints: tuple[tuple[str, str], ...] = ()  # by name; those of servers without metadata
    registration: Registration | None = None  # None: the client is configured
