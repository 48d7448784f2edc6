"""What tokens are bound to: the grant, the client and the server that gave them. Pure.

They are never sent to another: a token whose credential has changed counts as absent, and stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from proxy.config.model import Credential
from proxy.oauth.token import Token

ENDPOINTS: Final = (
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
)


def server_of(credential: Credential) -> str:
    """The authorization server by one name: its issuer, or its token endpoint where that is by hand."""
    return credential.issuer or credential.token_endpoint or ""


def by_hand(credential: Credential) -> dict[str, str]:
    """The endpoints that the configuration gives, by name."""
    given = {name: getattr(credential, name) for name in ENDPOINTS}
    return {name: url for name, url in given.items() if url is not None}


def bind(token: Token, credential: Credential) -> Token:
    """Bind a token of an earlier version, which had neither grant nor endpoints, to what is configured."""
    if token.grant:
        return token
    return replace(token, grant=credential.grant, endpoints=tuple(by_hand(credential).items()))


def is_bound(token: Token, credential: Credential) -> bool:
    """Whether the token was given by this server, to this client, by this grant.

    An endpoint by hand that has changed is another server. One that was added or left out is not, so that
    nobody must log in again for a revocation endpoint - but for a token endpoint: refresh tokens are sent
    there, so it must be the one that gave this token.
    """
    if (token.server, token.client_id) != (server_of(credential), credential.client_id):
        return False
    if not token.grant:
        return True  # of an earlier version: adopted as it is
    given, bound = by_hand(credential), dict(token.endpoints)
    if token.token_endpoint:
        bound.setdefault("token_endpoint", token.token_endpoint)
    is_changed = any(given[name] != bound[name] for name in given.keys() & bound.keys())
    return token.grant == credential.grant and not is_changed
