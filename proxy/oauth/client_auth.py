"""Client authentication at a token endpoint (RFC 6749 section 2.3.1), on top of Authlib's ClientAuth.

Authlib's own client_secret_basic sends id and secret unencoded, in latin-1. RFC 6749 requires them to be
form-encoded first, and most servers decode them; a few don't (`basic_encoding = "raw"`).
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import quote

from authlib.oauth2.auth import ClientAuth

from proxy.config.credential import ClientAuth as Method
from proxy.config.model import Credential

Prepared = tuple[str, dict[str, str], str]  # URL, header fields, form body

WITH_SECRET: Final[tuple[Method, ...]] = ("client_secret_basic", "client_secret_post")  # by preference
REFUSALS: Final = frozenset({"invalid_client", "incorrect_client_credentials"})  # the second: GitHub


def method_for(credential: Credential, offered: Collection[str] | None = None) -> Method:
    """The configured method, else the first of ours that the server offers.

    `offered` is token_endpoint_auth_methods_supported; None means client_secret_basic (RFC 8414 section 2).
    """
    if credential.client_auth is not None or credential.client_secret is None or offered is None:
        return credential.authentication
    return next((method for method in WITH_SECRET if method in offered), credential.authentication)


def authenticate(credential: Credential, url: str, body: str, method: Method | None = None) -> Prepared:
    """Add the client's credentials to a POST of `body` (form-encoded) to `url`."""
    method = method or credential.authentication
    secret = credential.client_secret.reveal() if credential.client_secret else ""
    encode = _BASIC[credential.basic_encoding] if method == "client_secret_basic" else None
    auth = ClientAuth(credential.client_id, secret, encode or method)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    prepared: Prepared = auth.prepare("POST", url, headers, body)
    return prepared


def hint(credential: Credential, method: Method, error: str) -> str:
    """The configuration key that may explain this error, besides a wrong id or secret; "" if none."""
    if error not in REFUSALS or credential.client_secret is None:
        return ""
    parts = (credential.client_id, credential.client_secret.reveal())
    if method == "client_secret_basic" and any(quote(part, safe="") != part for part in parts):
        return "basic_encoding"
    return "client_auth" if credential.client_auth is None else ""


def _basic(client_id: str, client_secret: str) -> str:
    userpass = f"{client_id}:{client_secret}".encode()
    return f"Basic {base64.b64encode(userpass).decode('ascii')}"


def _basic_rfc6749(client: Any, _method: str, uri: str, headers: dict[str, str], body: str) -> Prepared:
    # %20 for a space, not "+": servers that decode only percent-encoding accept it too
    encoded = (quote(part, safe="") for part in (client.client_id, client.client_secret))
    return uri, {**headers, "Authorization": _basic(*encoded)}, body


def _basic_raw(client: Any, _method: str, uri: str, headers: dict[str, str], body: str) -> Prepared:
    return uri, {**headers, "Authorization": _basic(client.client_id, client.client_secret)}, body


_BASIC: Final = {"rfc6749": _basic_rfc6749, "raw": _basic_raw}
