"""What refreshes and exchanges of tokens depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.oauth.endpoint import AuthorizationServers
from proxy.store.base import AccountId, Store
from proxy.tokens.clients import Clients

Attempted = Callable[[Credential, str, str, float], None]  # credential, outcome, error, seconds


@dataclass(frozen=True, slots=True)
class RefreshContext:
    """The dependencies of every refresh."""

    store: Store
    servers: AuthorizationServers
    clients: Clients
    clock: Clock
    process: str  # prefix of lease holders' names
    attempted: Attempted
    unsaved: set[AccountId] = field(default_factory=set)  # accounts whose new token can't be saved now
