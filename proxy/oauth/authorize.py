"""The authorization request and its redirect back (RFC 6749 section 4.1).

PKCE with S256 (RFC 7636; RFC 9700 section 2.1.1), unless the configuration turns it off; a nonce with the
scope openid, which some servers require. Pure except for the random values.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from authlib.common.urls import add_params_to_uri
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from proxy.config.address import DEFAULT_PORTS
from proxy.config.model import Credential
from proxy.oauth import resource
from proxy.oauth.resource import Parameters

_OF_CALLBACK: Final = frozenset({"state", "code", "error", "iss"})
_MOST_PARAMETERS: Final = 1000  # of a pasted URL; a callback has five or so


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


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """RFC 6749 section 4.1.1. No PKCE without a `verifier`."""

    redirect_uri: str
    state: str
    verifier: str | None
    nonce: str = ""
    dpop_jkt: str = ""  # the thumbprint of the account's key (RFC 9449 section 10)


def authorization_url(credential: Credential, endpoint: str, request: AuthorizationRequest) -> str:
    """The URL for the browser."""
    parameters = _parameters(credential, request)
    url: str = prepare_grant_uri(endpoint, credential.client_id, "code", **parameters)
    return url


def pushed_form(credential: Credential, request: AuthorizationRequest) -> str:
    """The same parameters as a form, for RFC 9126 section 2.1."""
    return authorization_url(credential, "", request).removeprefix("?")


def pushed_url(credential: Credential, endpoint: str, request_uri: str) -> str:
    """The URL for the browser after that (RFC 9126 section 4)."""
    parameters = {"client_id": credential.client_id, "request_uri": request_uri}
    url: str = add_params_to_uri(endpoint, parameters.items())
    return url


def _parameters(credential: Credential, request: AuthorizationRequest) -> Parameters:
    """Those besides client_id and response_type."""
    ours: Parameters = resource.parameters(credential)
    ours |= {"redirect_uri": request.redirect_uri, "state": request.state}
    if credential.scopes:
        ours["scope"] = " ".join(credential.scopes)
    if request.nonce:
        ours["nonce"] = request.nonce
    if request.verifier is not None:
        ours["code_challenge"] = create_s256_code_challenge(request.verifier)
        ours["code_challenge_method"] = "S256"
    if request.dpop_jkt:
        ours["dpop_jkt"] = request.dpop_jkt
    return {**ours, **credential.authorize_params}


@dataclass(frozen=True, slots=True)
class Callback:
    """The parameters of a redirect back to us (RFC 6749 sections 4.1.2 and 4.1.2.1, RFC 9207)."""

    state: str
    code: str
    error: str
    iss: str | None
    repeated: frozenset[str] = frozenset()  # which of these came more than once


def read_callback(parameters: Iterable[tuple[str, str]]) -> Callback:
    """RFC 6749 section 3.1 forbids repeated parameters: their first value is kept, for a message.

    Others are ignored, however often they come.
    """
    found: dict[str, str] = {}
    repeated = set()
    for name, value in parameters:
        if name not in _OF_CALLBACK:
            continue
        if name in found:
            repeated.add(name)
        found.setdefault(name, value)
    return Callback(
        state=found.get("state", ""),
        code=found.get("code", ""),
        error=found.get("error", ""),
        iss=found.get("iss"),
        repeated=frozenset(repeated),
    )


def callback_parameters(url: str) -> list[tuple[str, str]]:
    """The query parameters of a redirect URL that a person pasted; [] for anything else."""
    try:
        query = urlsplit(url.strip()).query
        return parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        return []


def path_of(url: str) -> str:
    """The path of a URL that a person pasted; "" for anything else."""
    try:
        return urlsplit(url.strip()).path
    except ValueError:
        return ""


def closeness(iss: str, urls: Iterable[str]) -> int:
    """How much an issuer has in common with a server's URLs, at most: 1 for the origin, and 1 for each of
    the first path segments. 0: another origin, or no URL.

    Tenants of one host (Entra, Okta, Keycloak) differ in their first segments.
    """
    named = _parts(iss)
    return max((_common(named, _parts(url)) for url in urls), default=0)


def _common(one: list[str], other: list[str]) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _parts(url: str) -> list[str]:
    """The origin, then the segments of the path; [] if it is no http or https URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return []
    if port is None or not parts.hostname:
        return []
    origin = f"{parts.scheme}://{parts.hostname.rstrip('.')}:{port}"
    return [origin, *(segment for segment in parts.path.split("/") if segment)]
