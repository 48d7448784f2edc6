"""grant = "device_code": a person logs in on any device, with a user code (RFC 8628); then as any login."""

from __future__ import annotations

from typing import Final

from proxy.config.model import Credential
from proxy.oauth.grants.authorization_code import log_in_again
from proxy.oauth.grants.base import Form, Grant, Login, Renewal, refresh_form, with_scope
from proxy.secret import Secret

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:device_code"


def authorization_form(credential: Credential) -> dict[str, str | list[str]]:
    """The device authorization request (RFC 8628 section 3.1), with the extra parameters of logins."""
    return {**with_scope({}, credential), **credential.authorize_params}


def polling_form(device_code: Secret) -> Form:
    """The device access token request (RFC 8628 section 3.4)."""
    return {"grant_type": GRANT_TYPE, "device_code": device_code.reveal()}


DEVICE_CODE: Final = Grant(
    name="device_code",
    grant_type="refresh_token",
    renewal=Renewal.LOGIN,
    form=refresh_form,
    remedy=log_in_again,
    login=Login.DEVICE,
    login_type=GRANT_TYPE,
)
