"""grant = "jwt_bearer": an assertion, signed here or by the platform, is exchanged for a token (RFC 7523)."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Final

from proxy.config.grant_keys import AssertionKey
from proxy.config.model import Credential
from proxy.oauth import jwt
from proxy.oauth.grants.base import Form, Grant, Proof, Renewal, no_remedy, with_scope
from proxy.secret import Secret

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFETIME: Final = 300.0  # seconds of an assertion: it is used at once, and clocks differ by minutes
BACKDATED: Final = 30.0  # seconds: a server whose clock is behind refuses one from its future


def _form(credential: Credential, _refresh_token: Secret | None) -> Form:
    """RFC 7523 section 2.1; the assertion is added when it is sent."""
    form = {"grant_type": GRANT_TYPE}
    is_in_claims = credential.key is not None and credential.key.is_service_account
    return form if is_in_claims else with_scope(form, credential)


def _file(credential: Credential) -> Path | None:
    return credential.assertion


def _proof(credential: Credential, proof: Proof) -> Form:
    if proof.content is not None:
        return {"assertion": proof.content.reveal()}
    assert credential.key is not None  # see config/grant_keys.py
    key, claims = credential.key, claims_of(credential, credential.key, proof)
    header = {"typ": "JWT", **({"kid": key.signing.kid} if key.signing.kid else {})}
    return {"assertion": jwt.signed(claims, key.signing, header=header)}


def claims_of(credential: Credential, key: AssertionKey, proof: Proof) -> dict[str, Any]:
    """RFC 7523 section 3. Google takes the scope as a claim, and a subject only to act for a person."""
    issuer = key.issuer or credential.client_id
    made: dict[str, Any] = {"iss": issuer, "aud": proof.endpoint}
    if key.is_service_account:
        made |= with_scope({}, credential)
    else:
        made["sub"] = credential.claims.get("iss", issuer)
    made |= credential.claims
    times = {"iat": int(proof.now - BACKDATED), "exp": int(proof.now + LIFETIME)}
    return {**made, **times, "jti": secrets.token_urlsafe(24)}


JWT_BEARER: Final = Grant(
    name="jwt_bearer",
    grant_type=GRANT_TYPE,
    renewal=Renewal.ITSELF,
    form=_form,
    remedy=no_remedy,
    file=_file,
    proof=_proof,
    refused=(
        "the authorization server refuses the assertion",
        "check key, claims or assertion of credentials.{credential}, and this machine's clock",
    ),
)
