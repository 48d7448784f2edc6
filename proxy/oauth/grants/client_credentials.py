"""grant = "client_credentials": the client gets tokens for itself, without a login (RFC 6749 section 4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from proxy.oauth.grants.base import Form, Grant, Renewal
from proxy.secret import Secret


def _form(scopes: Sequence[str], _refresh_token: Secret | None) -> Form:
    """RFC 6749 section 4.4.2."""
    form = {"grant_type": "client_credentials"}
    if scopes:
        form["scope"] = " ".join(scopes)
    return form


def _remedy(_credential: str, _account: str) -> str:
    return ""  # the next token request is independent


CLIENT_CREDENTIALS: Final = Grant(
    name="client_credentials",
    grant_type="client_credentials",
    renewal=Renewal.ITSELF,
    form=_form,
    remedy=_remedy,
)
