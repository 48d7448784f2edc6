"""How a login can end."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.oauth.token import Principal
from proxy.store.base import AccountId
from proxy.tokens.login.takeover import Takeover


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The account has its tokens. `principal`: their owner; None if the server named none."""

    key: AccountId
    principal: Principal | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The account is unchanged."""

    key: AccountId


End = LoggedIn | Cancelled | Takeover  # Takeover: not ended yet, a decision is needed
