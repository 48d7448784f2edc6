"""Tableau's sign-in with a personal access token: help.tableau.com, "Signing In and Signing Out"."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.fakes.two_step.base import TwoStep

NAME, SECRET, SITE = "proxy", 'EE2D2915==:a"b\\', "marketing"


class Tableau(TwoStep):
    token_field = "X-Tableau-Auth"
    scheme = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.environment = {"TABLEAU_SECRET": SECRET}

    def configuration(self, url: str) -> str:
        return f"""
grant = "request"
steps = [
  {{ url = "{url}/api/3.27/auth/signin", json = {{ credentials = {{ personalAccessTokenName = "{NAME}", personalAccessTokenSecret = "{{secret.PAT}}", site = {{ contentUrl = "{SITE}" }} }} }} }},
]
secrets = {{ PAT = {{ env = "TABLEAU_SECRET" }} }}
response = {{ token = "credentials.token" }}
attach = {{ header = "X-Tableau-Auth", scheme = "" }}
access_token_lifetime = 14400
"""  # noqa: E501 (as a user writes it)

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/api/3.27/auth/signin", self._sign_in)

    async def _sign_in(self, request: web.Request) -> web.Response:
        if request.headers.get("Accept") != "application/json":
            return web.Response(text="<tsResponse/>", content_type="application/xml")
        given = (await request.json())["credentials"]
        pair = (given.get("personalAccessTokenName"), given.get("personalAccessTokenSecret"))
        if pair != (NAME, SECRET) or given["site"] != {"contentUrl": SITE}:
            error = {
                "summary": "Signin Error",
                "detail": "Error signing in to Tableau Server",
                "code": "401001",
            }
            return web.json_response({"error": error}, status=401)
        document = {
            "credentials": {
                "site": {"id": "9a8b7c6d-5e4f-3a2b-1c0d-9e8f7a6b5c4d", "contentUrl": SITE},
                "user": {"id": "9f9e9d9c-8b8a-8f8e-7d7c-7b7a6f6d6e6d"},
                "token": self.issue(),
                "estimatedTimeToExpiration": "240:00:00",
            }
        }
        return web.json_response(document)
