"""grant = "request": tokens that are not OAuth's, by the requests that the configuration describes.

The requests are in oauth/described.py: this grant has no form.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.oauth.grants.base import Form, Grant, Renewal


def _form(*_: Any) -> Form:
    return {"grant_type": "request"}  # for the log


def _remedy(_credential: str, _account: str) -> str:
    return ""  # each login is independent


REQUEST: Final = Grant(
    name="request",
    grant_type="request",
    renewal=Renewal.ITSELF,
    form=_form,
    remedy=_remedy,
    place="the urls in steps",
)
