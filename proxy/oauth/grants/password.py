"""grant = "password", legacy: a name and a password are exchanged for tokens (RFC 6749 section 4.3)."""

from __future__ import annotations

from typing import Final

from proxy.config.model import Credential
from proxy.oauth.grants.base import Form, Grant, Renewal, no_remedy, refresh_form, with_scope
from proxy.secret import Secret


def _form(credential: Credential, refresh_token: Secret | None) -> Form | None:
    """A refresh while there is a refresh token, which spares the server a check of the password."""
    if refresh_token is not None:
        return refresh_form(credential, refresh_token)
    assert credential.username is not None  # both: see config/grant_keys.py
    assert credential.password is not None
    form = {
        "grant_type": "password",
        "username": credential.username,
        "password": credential.password.reveal(),
    }
    return with_scope(form, credential)


PASSWORD: Final = Grant(
    name="password",
    grant_type="password",
    renewal=Renewal.ITSELF,
    form=_form,
    remedy=no_remedy,
    pause_when_refused=3600.0,
    refused=(
        "the authorization server refuses the username or the password",
        "check username and password of credentials.{credential}",
    ),
)
