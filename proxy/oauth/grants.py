"""One pure function per grant: what is sent to the token endpoint (RFC 6749 sections 4.1.3, 4.4.2, 6).

Client authentication and `token_params` are added by endpoint.py, for every grant alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.secret import Secret

Form = dict[str, str]


def authorization_code(code: str, redirect_uri: str, code_verifier: str | None) -> Form:
    """RFC 6749 section 4.1.3, and RFC 7636 section 4.5 for the verifier."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    if code_verifier:
        form["code_verifier"] = code_verifier
    return form


def refresh_token(token: Secret) -> Form:
    """RFC 6749 section 6. No scope: what was granted stays granted, and a refresh can't widen it."""
    return {"grant_type": "refresh_token", "refresh_token": token.reveal()}


def client_credentials(scopes: Sequence[str]) -> Form:
    """RFC 6749 section 4.4.2."""
    form = {"grant_type": "client_credentials"}
    if scopes:
        form["scope"] = " ".join(scopes)
    return form
