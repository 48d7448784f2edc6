"""Dynamic client registration (RFC 7591): what we ask for, and what the response says. Pure.

The response decides: a server may change what was asked for (section 3.2.1). So its authentication method is
heeded, and one that we do not have is an error now rather than at the first token request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

from proxy.config.client_auth import REGISTERED
from proxy.config.found import Registration
from proxy.config.grants import REQUIREMENTS
from proxy.config.model import Credential
from proxy.errors import TRY_LATER, AuthorizationServerError
from proxy.oauth import documents
from proxy.oauth.documents import UnreadableDocument
from proxy.oauth.fetch import Reply
from proxy.oauth.grants.device_code import GRANT_TYPE as DEVICE_CODE
from proxy.secret import Secret

ON_DEVICE: Final = (DEVICE_CODE, "refresh_token")  # the grant types of a client without redirects
FIELDS: Final = {"Content-Type": "application/json", "Accept": "application/json"}
_MILLISECONDS: Final = 1e11  # a Unix time above this is not in seconds: that would be the year 5138
_ERRORS: Final = frozenset(  # section 3.2.2; others count as the last
    {"invalid_redirect_uri", "invalid_client_metadata", "registration_refused"}
)
_VISIBLE: Final = re.compile(r"[\x20-\x7e]+")  # RFC 6749 A.1 and A.2


def request(credential: Credential, redirect_uri: str | None, offered: tuple[str, ...] | None) -> str:
    """The body of the request (section 3.1). `offered`: the server's authentication methods, if known.

    Without `redirect_uri` it is for logins on another device, if the grant has logins.
    """
    asks = REQUIREMENTS[credential.grant]
    grant_types = ON_DEVICE if asks.redirects and redirect_uri is None else asks.registers_for
    metadata: dict[str, Any] = {
        "client_name": "token-proxy",
        "grant_types": grant_types,
        "token_endpoint_auth_method": method_for(credential, offered),
    }
    if redirect_uri is not None:
        parts = urlsplit(redirect_uri)
        metadata |= {
            "redirect_uris": [redirect_uri],
            "response_types": ["code"],
            # OpenID Connect Registration 1.0 section 2: http on loopback is for native clients alone
            "application_type": "native" if parts.scheme == "http" else "web",
        }
    if credential.scopes:
        metadata["scope"] = " ".join(credential.scopes)
    return json.dumps(metadata)


def method_for(credential: Credential, offered: tuple[str, ...] | None) -> str:
    """The configured method, else the first of ours that the server offers, one with a secret first.

    Unknown means client_secret_basic (RFC 8414 section 2).
    """
    if credential.client_auth is not None:
        return credential.client_auth
    if offered is None:
        return REGISTERED[0]
    return next((method for method in REGISTERED if method in offered), REGISTERED[0])


def read(reply: Reply, *, asked: str, place: str, now: float) -> Registration:
    """The client of a response. `asked`: the method that was asked for; `now`: Unix seconds.

    Raises AuthorizationServerError.
    """
    if reply.status >= 500 or reply.status in TRY_LATER:
        raise AuthorizationServerError("transient", "registration", status=reply.status)
    try:
        members = documents.read(reply.headers, reply.body, ("client_id", "error")).members
    except UnreadableDocument:
        members = {}
    if not 200 <= reply.status < 300:
        raise _refusal(reply.status, members)
    client_id, secret = members.get("client_id"), members.get("client_secret") or None
    if not _is_visible(client_id) or not (secret is None or _is_visible(secret)):
        raise AuthorizationServerError("transient", "registration")
    method = members.get("token_endpoint_auth_method") or (asked if secret else "none")
    if method not in REGISTERED or (secret is None) != (method == "none"):
        if method != "none":
            raise AuthorizationServerError("misconfigured", "registration_method")
        secret = None  # it is not to be sent
    ends = _end_of(members, now) if secret else None
    return Registration(client_id, Secret(secret) if secret else None, method, now, ends, place)


def _refusal(status: int, members: Mapping[str, Any]) -> AuthorizationServerError:
    if 300 <= status < 400:
        return AuthorizationServerError("misconfigured", "registration_redirect")
    if status in {404, 405, 410}:
        return AuthorizationServerError("misconfigured", "no_registration")
    code = members.get("error")
    known = code if isinstance(code, str) and code in _ERRORS else "registration_refused"
    return AuthorizationServerError("misconfigured", known)


def _is_visible(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(_VISIBLE.fullmatch(value))


def _end_of(members: Mapping[str, Any], now: float) -> float | None:
    """When the secret expires (section 3.2.1: 0 for never); None for never, or for no time to come."""
    value = members.get("client_secret_expires_at")
    if isinstance(value, str) and value.isdecimal() and value.isascii():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    ends = value / 1000 if value > _MILLISECONDS else float(value)
    return ends if now < ends < _MILLISECONDS else None
