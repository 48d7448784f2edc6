"""grant = "client_credentials": the client gets tokens for itself, without a login (RFC 6749 section 4.4)."""

from __future__ import annotations

from typing import Final

from proxy.config.model import Credential
from proxy.oauth.grants.base import Form, Grant, Renewal, no_remedy, with_scope
from proxy.secret import Secret


def _form(credential: Credential, _refresh_token: Secret | None) -> Form:
    """RFC 6749 section 4.4.2."""
    return with_scope({"grant_type": "client_credentials"}, credential)


CLIENT_CREDENTIALS: Final = Grant(
    name="client_credentials",
    grant_type="client_credentials",
    renewal=Renewal.ITSELF,
    form=_form,
    remedy=no_remedy,
)
