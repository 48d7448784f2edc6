"""The grants, one file each, and the only table of them by name. Pure.

A new grant needs a file here, an entry in `GRANTS`, and one in config/grants.py (its configuration keys); no
other module compares a grant's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.config.model import Credential
from proxy.oauth.grants.authorization_code import AUTHORIZATION_CODE
from proxy.oauth.grants.base import Form, Grant, Login, Renewal
from proxy.oauth.grants.client_credentials import CLIENT_CREDENTIALS
from proxy.oauth.grants.device_code import DEVICE_CODE
from proxy.oauth.grants.refresh_token import REFRESH_TOKEN
from proxy.oauth.grants.static import STATIC

GRANTS: Final[Mapping[str, Grant]] = {
    grant.name: grant
    for grant in (AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS, DEVICE_CODE, STATIC)
}


def of(credential: Credential) -> Grant:
    """The grant of a credential. The configuration accepts only names in `GRANTS`."""
    return GRANTS[credential.grant]


__all__ = ["GRANTS", "Form", "Grant", "Login", "Renewal", "of"]
