"""client_secret_basic and client_secret_post (RFC 6749 section 2.3.1), on top of Authlib's ClientAuth.

Authlib's own client_secret_basic sends id and secret unencoded, in latin-1. RFC 6749 requires them to be
form-encoded first, and most servers decode them; a few don't (`basic_encoding = "raw"`).
"""

from __future__ import annotations

import base64
from urllib.parse import quote

from authlib.oauth2.auth import ClientAuth

from proxy.config.model import Credential
from proxy.oauth.client_auth.base import Authenticated, Request


async def basic(request: Request) -> Authenticated:
    credential = request.credential
    pair = credential.client_id, _secret(credential)
    if credential.basic_encoding == "rfc6749":
        # %20 for a space, not "+": servers that decode only percent-encoding accept it too
        pair = quote(pair[0], safe=""), quote(pair[1], safe="")
    encoded = base64.b64encode(":".join(pair).encode()).decode("ascii")
    return Authenticated(request.body, f"Basic {encoded}")


async def post(request: Request) -> Authenticated:
    return _in_body(request, "client_secret_post")


async def nothing(request: Request) -> Authenticated:
    """Only the client id: of a public client, or of one that its TLS certificate authenticates (RFC 8705)."""
    return _in_body(request, "none")


def is_changed_by_encoding(credential: Credential) -> bool:
    """Whether the two values of basic_encoding send something different."""
    return any(quote(part, safe="") != part for part in (credential.client_id, _secret(credential)))


def _in_body(request: Request, method: str) -> Authenticated:
    auth = ClientAuth(request.credential.client_id, _secret(request.credential), method)
    _, _, body = auth.prepare("POST", "", {}, request.body)
    return Authenticated(body)


def _secret(credential: Credential) -> str:
    return credential.client_secret.reveal() if credential.client_secret else ""
