"""Veeva Vault's sessions: developer.veevavault.com, "User Name and Password". A refusal has status 200."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.fakes.two_step.base import TwoStep

USER, PASSWORD = "quinn@veepharm.com", "A&B=c%2F+d é{x}"


class Veeva(TwoStep):
    scheme = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.environment = {"VAULT_USER": USER, "VAULT_PASSWORD": PASSWORD}

    def configuration(self, url: str) -> str:
        return f"""
grant = "request"
steps = [ {{ url = "{url}/api/v24.1/auth", form = {{ username = "{{secret.USER}}", password = "{{secret.PASSWORD}}" }} }} ]
secrets = {{ USER = {{ env = "VAULT_USER" }}, PASSWORD = {{ env = "VAULT_PASSWORD" }} }}
response = {{ token = "sessionId" }}
attach = {{ header = "Authorization", scheme = "" }}
access_token_lifetime = 1200
"""  # noqa: E501 (as a user writes it)

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/api/v24.1/auth", self._authenticate)

    async def _authenticate(self, request: web.Request) -> web.Response:
        given = dict(await request.post())
        if given != {"username": USER, "password": PASSWORD}:
            error = {"type": "USERNAME_OR_PASSWORD_INCORRECT", "message": "Authentication failed"}
            return web.json_response({"responseStatus": "FAILURE", "errors": [error]})
        document = {
            "responseStatus": "SUCCESS",
            "sessionId": self.issue(),
            "userId": 17063069,
            "vaultId": 169741,
        }
        return web.json_response(document)
