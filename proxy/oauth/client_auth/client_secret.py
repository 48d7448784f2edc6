"""client_secret_basic and client_secret_post (RFC 6749 section 2.3.1).

The RFC requires id and secret to be form-encoded for Basic, and most servers decode them; a few don't
(`basic_encoding = "raw"`).
"""

from __future__ import annotations

import base64
from urllib.parse import quote

from proxy.config.model import Credential
from proxy.oauth.client_auth.base import Authenticated, Request, with_parameters


async def basic(request: Request) -> Authenticated:
    credential = request.credential
    pair = credential.client_id, _secret(credential)
    if credential.basic_encoding == "rfc6749":
        # %20 for a space, not "+": servers that decode only percent-encoding accept it too
        pair = quote(pair[0], safe=""), quote(pair[1], safe="")
    encoded = base64.b64encode(":".join(pair).encode()).decode("ascii")
    return Authenticated(request.body, f"Basic {encoded}")


async def post(request: Request) -> Authenticated:
    secret = {"client_id": request.credential.client_id, "client_secret": _secret(request.credential)}
    return Authenticated(with_parameters(request.body, secret))


async def nothing(request: Request) -> Authenticated:
    """Only the client id: of a public client, or of one that its TLS certificate authenticates (RFC 8705)."""
    return Authenticated(with_parameters(request.body, {"client_id": request.credential.client_id}))


def is_changed_by_encoding(credential: Credential) -> bool:
    """Whether the two values of basic_encoding send something different."""
    return any(quote(part, safe="") != part for part in (credential.client_id, _secret(credential)))


def _secret(credential: Credential) -> str:
    return credential.client_secret.reveal() if credential.client_secret else ""
