"""The binding of tokens to the grant, the client and the server that issued them. Pure.

They are never sent to another: a token whose credential has changed counts as absent, and stays stored.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.oauth.token import Token

Client = tuple[str, str, str]  # server, client id, grant

ENDPOINTS: Final = (
    "authorization_endpoint",
    "device_authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "pushed_authorization_request_endpoint",
)


def server_of(credential: Credential) -> str:
    """The name of the authorization server: its issuer, else its configured token endpoint.

    With `mcp` the MCP server's URL, as its authorization server is not configured: see `Token.found`. Where
    there is none of these, nothing is known to be shared with another credential: then its own name.
    """
    given = credential.mcp or credential.issuer or credential.token_endpoint or _described(credential)
    return given or f"credentials.{credential.name}"


def _described(credential: Credential) -> str:
    """A name of the described requests: other requests get other tokens. Without the secrets in it."""
    if not credential.steps:
        return ""
    claims = credential.jwt.claims if credential.jwt else {}
    text = repr((credential.steps, claims, credential.response))
    return f"{credential.steps[-1].url.origin} {hashlib.sha256(text.encode()).hexdigest()}"


def client_of(credential: Credential) -> Client:
    """Credentials with the same one share its throttle. The client is "" where the grant has none."""
    return server_of(credential), credential.principal, credential.grant


def by_hand(credential: Credential) -> dict[str, str]:
    """The endpoints set in the configuration, by name."""
    given = {name: getattr(credential, name) for name in ENDPOINTS}
    return {name: url for name, url in given.items() if url is not None}


def bind(token: Token, credential: Credential) -> Token:
    """Bind a token of an earlier version, saved without grant and endpoints, to the configured ones."""
    if token.grant:
        return token
    return replace(token, grant=credential.grant, endpoints=tuple(by_hand(credential).items()))


def given(credential: Credential, clock: Clock) -> Token:
    """The token that the configuration itself gives: `value`."""
    return Token(
        access_token=credential.value,
        refresh_token=None,
        server=server_of(credential),
        client_id=credential.client_id,
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        grant=credential.grant,
    )


def is_same_client(one: Credential, other: Credential) -> bool:
    """Whether both are the same client at the same server, with the same grant: one's tokens are the other's.

    As with `is_bound`, an endpoint that only one of them sets makes no difference.
    """
    if client_of(one) != client_of(other):
        return False
    first, second = by_hand(one), by_hand(other)
    return all(first[name] == second[name] for name in first.keys() & second.keys())


def is_bound(token: Token, credential: Credential) -> bool:
    """Whether the token was issued by this server, to this client, by this grant.

    A changed endpoint in the configuration means another server. An added or removed one does not, so that a
    new revocation endpoint requires no login. The token endpoint is the exception: refresh tokens are sent
    there, so it must be the one that issued this token.
    """
    if token.server != server_of(credential) or not _is_of_client(token, credential):
        return False
    if not token.grant:
        return True  # of an earlier version: see `bind`
    given, bound = by_hand(credential), dict(token.endpoints)
    if token.token_endpoint:
        bound.setdefault("token_endpoint", token.token_endpoint)
    is_changed = any(given[name] != bound[name] for name in given.keys() & bound.keys())
    return token.grant == credential.grant and not is_changed


def _is_of_client(token: Token, credential: Credential) -> bool:
    """Whether the token is of the configured client, or of one that was registered for the credential."""
    found = token.found
    if credential.mcp is None:
        return token.client_id == credential.principal
    if found is None or credential.issuer not in {None, found.issuer}:
        return False
    return found.registration is not None if credential.registers else token.client_id == credential.principal
