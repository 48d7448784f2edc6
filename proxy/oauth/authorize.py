"""The authorization request and its redirect back (RFC 6749 section 4.1).

PKCE with S256 (RFC 7636; RFC 9700 section 2.1.1), unless the configuration turns it off; a nonce with the
scope openid, which some servers require. Pure except for the random values.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from proxy.config.model import Credential


def new_state() -> str:
    """256 random bits: RFC 6749 section 10.12 requires it to be unguessable."""
    return secrets.token_urlsafe(32)


def new_verifier() -> str:
    """64 characters of the unreserved set (RFC 7636 section 4.1 allows 43 to 128)."""
    return secrets.token_urlsafe(48)


def nonce_for(credential: Credential) -> str:
    """The nonce expected in the id_token of this login (OpenID Connect Core 1.0 section 3.1.2.1), or ""

    A nonce in `authorize_params` takes precedence.
    """
    given = credential.authorize_params.get("nonce")
    if given is not None:
        return given if isinstance(given, str) else ""
    return secrets.token_urlsafe(32) if "openid" in credential.scopes else ""


def authorization_url(
    credential: Credential,
    endpoint: str,
    *,
    redirect_uri: str,
    state: str,
    verifier: str | None,
    nonce: str = "",
) -> str:
    """The URL for the browser. No PKCE without a `verifier`."""
    ours = {"nonce": nonce} if nonce else {}
    if verifier is not None:
        ours["code_challenge"] = create_s256_code_challenge(verifier)
        ours["code_challenge_method"] = "S256"
    url: str = prepare_grant_uri(
        endpoint,
        credential.client_id,
        "code",
        redirect_uri=redirect_uri,
        scope=" ".join(credential.scopes) or None,
        state=state,
        **{**ours, **credential.authorize_params},
    )
    return url


@dataclass(frozen=True, slots=True)
class Callback:
    """The parameters of a redirect back to us (RFC 6749 sections 4.1.2 and 4.1.2.1, RFC 9207)."""

    state: str
    code: str
    error: str
    iss: str | None


def read_callback(parameters: Mapping[str, str]) -> Callback:
    return Callback(
        state=parameters.get("state", ""),
        code=parameters.get("code", ""),
        error=parameters.get("error", ""),
        iss=parameters.get("iss"),
    )


def callback_parameters(url: str) -> dict[str, str]:
    """The query parameters of a redirect URL that a person pasted; {} for anything else."""
    try:
        query = urlsplit(url.strip()).query
    except ValueError:
        return {}
    return dict(parse_qsl(query, keep_blank_values=True))
