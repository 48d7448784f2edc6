"""grant = "static": the configuration gives the token itself: an API key, a personal access token."""

from __future__ import annotations

from typing import Final

from proxy.config.model import Credential
from proxy.oauth.grants.base import Form, Grant, Renewal
from proxy.secret import Secret


def _form(_credential: Credential, _refresh_token: Secret | None) -> Form | None:
    return None


def _remedy(credential: str, _account: str) -> str:
    return f"set credentials.{credential}.value to a new one"


STATIC: Final = Grant(
    name="static",
    grant_type="",
    renewal=Renewal.NEVER,
    form=_form,
    remedy=_remedy,
)
