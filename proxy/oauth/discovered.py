"""A credential together with what was found for it: the server and client that its tokens are of. Pure."""

from __future__ import annotations

from typing import Any, Final

from proxy.config.found import Found
from proxy.config.model import Credential
from proxy.oauth.binding import ENDPOINTS
from proxy.oauth.token import Token

OFFLINE: Final = "offline_access"  # OpenID Connect Core 1.0 section 11


def as_issued(credential: Credential, token: Token | None) -> Credential:
    """The credential with the server and client that issued the token, whatever discovery finds now."""
    return credential if token is None or token.found is None else with_found(credential, token.found)


def with_found(credential: Credential, found: Found) -> Credential:
    """What is configured takes precedence."""
    updates: dict[str, Any] = {
        "found": found,
        "issuer": credential.issuer or found.issuer or None,
        "resource": credential.resource or _resource(credential, found),
        "scopes": credential.scopes or found.scopes,
        **{name: getattr(credential, name) or url for name, url in found.endpoints if name in ENDPOINTS},
    }
    if not credential.scopes and OFFLINE in found.scopes:  # section 11 there: the person has to consent
        updates["authorize_params"] = {"prompt": "consent", **credential.authorize_params}
    made = found.registration
    if made is not None:
        updates |= {
            "client_id": made.client_id,
            "client_secret": made.client_secret,
            "client_auth": made.auth_method,
        }
    return credential.model_copy(update=updates)


def _resource(credential: Credential, found: Found) -> tuple[str, ...]:
    by_hand = "resource" in credential.authorize_params or "resource" in credential.token_params
    return () if by_hand else (found.resource,)
