"""grant = "refresh_token": the configuration gives the first refresh token (RFC 6749 section 6)."""

from __future__ import annotations

from typing import Final

from proxy.oauth.grants.base import Grant, Renewal, refresh_form


def _remedy(credential: str, _account: str) -> str:
    return f"set credentials.{credential}.refresh_token to a new refresh token"


REFRESH_TOKEN: Final = Grant(
    name="refresh_token",
    grant_type="refresh_token",
    renewal=Renewal.CONFIGURATION,
    form=refresh_form,
    remedy=_remedy,
)
