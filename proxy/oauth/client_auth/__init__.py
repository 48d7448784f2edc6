"""Client authentication (RFC 6749 section 2.3), and the only table of its methods by name.

It is the same at every endpoint of a server that a client posts to. A new method needs a function here, an
entry in METHODS, and one in config/client_auth.py (its configuration keys).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from proxy.config.client_auth import ClientAuth
from proxy.config.model import Credential
from proxy.config.signing_keys import HMAC, SigningKey
from proxy.oauth.client_auth import client_assertion, client_secret
from proxy.oauth.client_auth.base import Authenticated, Choice, Method, Request

METHODS: Final[Mapping[ClientAuth, Method]] = {
    "client_secret_basic": client_secret.basic,
    "client_secret_post": client_secret.post,
    "client_secret_jwt": client_assertion.client_secret,
    "private_key_jwt": client_assertion.private_key,
    "tls_client_auth": client_secret.nothing,  # the certificate is the connection's: fetch.tls_context
    "self_signed_tls_client_auth": client_secret.nothing,
    "none": client_secret.nothing,
}
_SIGNED: Final = frozenset({"private_key_jwt", "client_secret_jwt"})
REFUSALS: Final = frozenset({"invalid_client", "incorrect_client_credentials"})  # the second: GitHub


def is_signed(credential: Credential, choice: Choice) -> bool:
    """Whether we sign a JWT for each request. Not one that the platform has written."""
    return choice.method in _SIGNED and credential.client_assertion is None


def needs_metadata(credential: Credential) -> bool:
    """Whether the server's metadata make a difference."""
    return len(credential.authentications) > 1 or credential.authentication in _SIGNED


def choose(
    credential: Credential,
    audience: str,
    offered: Collection[str] | None = None,
    algorithms: Collection[str] | None = None,
) -> Choice:
    """The configured method, else the first that the client's keys allow and the server offers.

    `audience`: the token endpoint's URL. `offered` and `algorithms`: of the server's metadata (RFC 8414
    section 2), None if unknown. If they offer nothing that the client can do, it does as without: they may
    be wrong.
    """
    ours = credential.authentications
    method = next((each for each in ours if offered is not None and each in offered), ours[0])
    if method not in _SIGNED:
        return Choice(method)
    issuer = credential.issuer if credential.assertion_audience != "endpoint" else None
    return Choice(method, _algorithm(credential, algorithms), issuer or audience)


def _algorithm(credential: Credential, offered: Collection[str] | None) -> str:
    if credential.assertion_alg is not None:
        return credential.assertion_alg
    key = credential.client_key
    known = key.algorithms if isinstance(key, SigningKey) else HMAC
    return next((each for each in known if offered is not None and each in offered), known[0])


async def authenticate(request: Request) -> Authenticated:
    """Raises AuthorizationServerError for a file of the platform that can't be used."""
    return await METHODS[request.choice.method](request)


def hint(credential: Credential, method: ClientAuth, error: str) -> str:
    """The configuration key that may explain this error, besides a wrong id or secret; "" if none."""
    if error not in REFUSALS or method == "none":
        return ""
    if method == "private_key_jwt":
        return "client_key" if credential.client_key else "client_assertion"
    if method == "client_secret_jwt":
        return method
    if method in {"tls_client_auth", "self_signed_tls_client_auth"}:
        return "tls"
    if method == "client_secret_basic" and client_secret.is_changed_by_encoding(credential):
        return "basic_encoding"
    return "client_auth" if credential.client_auth is None else ""


__all__ = ["METHODS", "REFUSALS", "Authenticated", "Choice", "Request", "authenticate", "choose", "hint"]
