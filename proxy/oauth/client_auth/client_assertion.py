"""JWTs that authenticate a client: private_key_jwt and client_secret_jwt (RFC 7523 sections 2.2 and 3).

Each request has a JWT of its own. One that the platform writes is read from its file each time, as platforms
replace it long before it expires.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from pathlib import Path
from typing import Any, Final

from proxy.config import files
from proxy.errors import AuthorizationServerError
from proxy.oauth import jwt
from proxy.oauth.client_auth.base import Authenticated, Request, with_parameters

TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LIFETIME: Final = 120.0  # seconds. FAPI and Keycloak refuse long ones; a JWT is sent as soon as it is signed
BACKDATED: Final = (
    10.0  # seconds: no server's clock is exactly ours, and none accepts what begins in its future
)
_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


async def private_key(request: Request) -> Authenticated:
    """Signed with client_key, or by the platform. Raises AuthorizationServerError."""
    credential = request.credential
    if credential.client_assertion is not None:
        return _with(request, await asyncio.to_thread(_of_platform, credential.client_assertion))
    key = credential.client_key
    assert key is not None  # config/client_auth.py
    kid = credential.client_key_id or key.kid
    header = {"kid": kid} if kid else {}
    if key.thumbprint:
        header["x5t#S256"] = key.thumbprint
    return _with(request, jwt.signed(_claims(request), key, request.choice.algorithm, header))


async def client_secret(request: Request) -> Authenticated:
    secret = request.credential.client_secret
    assert secret is not None  # config/client_auth.py
    return _with(request, jwt.signed_with_secret(_claims(request), secret, request.choice.algorithm))


def _claims(request: Request) -> dict[str, Any]:
    client_id = request.credential.client_id
    return {
        "iss": client_id,
        "sub": client_id,
        "aud": request.choice.audience,
        "jti": secrets.token_urlsafe(24),
        "iat": int(request.now - BACKDATED),
        "exp": int(request.now + LIFETIME),
    }


def _with(request: Request, assertion: str) -> Authenticated:
    """With the client id, which RFC 7521 section 4.2 leaves open, and Entra requires."""
    client_id = request.credential.client_id
    added = {"client_id": client_id, "client_assertion_type": TYPE, "client_assertion": assertion}
    return Authenticated(with_parameters(request.body, added))


def _of_platform(path: Path) -> str:
    """Blocks. Raises AuthorizationServerError."""
    try:
        text = files.read(path).secret.reveal().strip()
    except ValueError:
        text = ""
    if not _JWT.fullmatch(text):
        raise AuthorizationServerError("transient", "client_assertion", reached=False)
    return text
