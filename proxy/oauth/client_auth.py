"""How a client proves who it is at a token endpoint (RFC 6749 section 2.3.1), on top of Authlib's ClientAuth.

Authlib's own client_secret_basic sends id and secret as they are, in latin-1. RFC 6749 wants them
form-encoded first, and most servers decode them; a few don't (`basic_encoding = "raw"`).
"""

from __future__ import annotations

import base64
from typing import Any, Final
from urllib.parse import quote

from authlib.oauth2.auth import ClientAuth

from proxy.config.model import Credential

Prepared = tuple[str, dict[str, str], str]  # URL, header fields, form body


def authenticate(credential: Credential, url: str, body: str) -> Prepared:
    """Add the client's credentials to a POST of `body` (form-encoded) to `url`."""
    secret = credential.client_secret.reveal() if credential.client_secret else ""
    method = _BASIC[credential.basic_encoding] if credential.authentication == "client_secret_basic" else None
    auth = ClientAuth(credential.client_id, secret, method or credential.authentication)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    prepared: Prepared = auth.prepare("POST", url, headers, body)
    return prepared


def _basic(client_id: str, client_secret: str) -> str:
    userpass = f"{client_id}:{client_secret}".encode()
    return f"Basic {base64.b64encode(userpass).decode('ascii')}"


def _basic_rfc6749(client: Any, _method: str, uri: str, headers: dict[str, str], body: str) -> Prepared:
    # %20 for a space, not "+": servers that decode only percent signs get it right too
    encoded = (quote(part, safe="") for part in (client.client_id, client.client_secret))
    return uri, {**headers, "Authorization": _basic(*encoded)}, body


def _basic_raw(client: Any, _method: str, uri: str, headers: dict[str, str], body: str) -> Prepared:
    return uri, {**headers, "Authorization": _basic(client.client_id, client.client_secret)}, body


_BASIC: Final = {"rfc6749": _basic_rfc6749, "raw": _basic_raw}
