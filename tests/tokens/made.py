"""Tokens and credentials without a server."""

from __future__ import annotations

from proxy.config.model import Credential
from proxy.oauth.token import Token
from proxy.secret import Secret
from tests.fakes.clock import FakeClock

HOUR = 3600.0


def token(
    clock: FakeClock, lifetime: float | None = HOUR, access_token: str | None = "A", **more: object
) -> Token:
    return Token(
        access_token=access_token and Secret(access_token),
        refresh_token=None if access_token is None else Secret("R"),
        server="https://login.example",
        client_id="web",
        issued_at=clock.wall(),
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=lifetime,
        **more,
    )


def credential(**keys: object) -> Credential:
    given = {"client_id": "web", "issuer": "https://login.example", **keys}
    if given.get("grant") == "client_credentials":
        given["client_secret"] = Secret("s")
    return Credential.model_validate(given)
