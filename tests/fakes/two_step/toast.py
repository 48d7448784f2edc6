"""Toast's login of machine clients: doc.toasttab.com, "Authentication and restaurant access"."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.fakes.two_step.base import TwoStep

CLIENT, SECRET = "VKuhk4NaLedOcjZpJM8g", "eS960{{aiKdvgbSDcLUCk68HR2C"


class Toast(TwoStep):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.environment = {"TOAST_CLIENT": CLIENT, "TOAST_SECRET": SECRET}

    def configuration(self, url: str) -> str:
        return f"""
grant = "request"
steps = [
  {{ url = "{url}/authentication/v1/authentication/login", json = {{ clientId = "{{secret.CLIENT}}", clientSecret = "{{secret.SECRET}}", userAccessType = "TOAST_MACHINE_CLIENT" }} }},
]
secrets = {{ CLIENT = {{ env = "TOAST_CLIENT" }}, SECRET = {{ env = "TOAST_SECRET" }} }}
response = {{ token = "token.accessToken", expires_in = "token.expiresIn" }}
"""  # noqa: E501 (as a user writes it)

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/authentication/v1/authentication/login", self._log_in)

    async def _log_in(self, request: web.Request) -> web.Response:
        wanted = {"clientId": CLIENT, "clientSecret": SECRET, "userAccessType": "TOAST_MACHINE_CLIENT"}
        if await request.json() != wanted:
            return web.json_response({"status": 401, "code": 10010, "message": "unauthorized"}, status=401)
        token = {
            "tokenType": "Bearer",
            "scope": None,
            "expiresIn": int(self.lifetime),
            "accessToken": self.issue(),
            "idToken": None,
            "refreshToken": None,
        }
        document = {"@class": ".SuccessfulResponse", "token": token, "status": "SUCCESS"}
        return web.json_response(document)
