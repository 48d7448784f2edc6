"""GitHub App installation tokens: docs.github.com, "Generating an installation access token"."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.fakes.two_step.base import TwoStep

APP, INSTALLATION = "12345", 42


class GitHubApp(TwoStep):
    """An app with one installation, in the repository octo/cat."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pkcs1 = PrivateFormat.TraditionalOpenSSL  # the format of GitHub's download
        self.pem = key.private_bytes(Encoding.PEM, pkcs1, NoEncryption()).decode()
        self._public = key.public_key()
        self.environment = {"GITHUB_APP_KEY": self.pem}
        self.seen: set[str] = set()  # the `jti` of each JWT

    def configuration(self, url: str) -> str:
        return f"""
grant = "request"
steps = [
  {{ method = "GET", url = "{url}/repos/octo/cat/installation", headers = {{ Authorization = "Bearer {{jwt}}" }} }},
  {{ url = "{url}/app/installations/{{step1.id}}/access_tokens", headers = {{ Authorization = "Bearer {{jwt}}", X-GitHub-Api-Version = "2022-11-28" }}, json = {{ repositories = ["cat"], permissions = {{ contents = "read" }} }} }},
]
jwt = {{ alg = "RS256", key = {{ env = "GITHUB_APP_KEY" }}, claims = {{ iss = "{APP}" }}, lifetime = 540 }}
response = {{ token = "token", expires_at = "expires_at" }}
"""  # noqa: E501 (as a user writes it)

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/repos/octo/cat/installation", self._installation)
        app.router.add_post("/app/installations/{id}/access_tokens", self._access_tokens)

    async def _installation(self, request: web.Request) -> web.Response:
        return self._refusal(request) or web.json_response({"id": INSTALLATION, "app_slug": "octoapp"})

    async def _access_tokens(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        if request.match_info["id"] != str(INSTALLATION):
            return web.json_response({"message": "Not Found"}, status=404)
        wanted = await request.json()
        if wanted.get("repositories", ["cat"]) != ["cat"]:
            return web.json_response({"message": "Unprocessable"}, status=422)
        until = datetime.fromtimestamp(self.clock.wall() + self.lifetime, UTC)
        document = {
            "token": self.issue("ghs_"),
            "expires_at": f"{until:%Y-%m-%dT%H:%M:%SZ}",
            "permissions": wanted.get("permissions", {}),
            "repository_selection": "selected",
        }
        return web.json_response(document, status=201)

    def _refusal(self, request: web.Request) -> web.Response | None:
        if "User-Agent" not in request.headers:
            return web.json_response({"message": "Request forbidden by administrative rules."}, status=403)
        now = self.clock.wall()
        try:
            header, payload, signature = request.headers["Authorization"].removeprefix("Bearer ").split(".")
            assert json.loads(_decoded(header))["alg"] == "RS256"
            self._public.verify(
                _decoded(signature), f"{header}.{payload}".encode(), padding.PKCS1v15(), SHA256()
            )
            claims = json.loads(_decoded(payload))
        except (KeyError, InvalidSignature, ValueError, AssertionError):
            return web.json_response({"message": "A JSON web token could not be decoded"}, status=401)
        is_timely = claims["iat"] <= now < claims["exp"] <= now + 600
        if claims.get("iss") != APP or not is_timely:
            return web.json_response({"message": "'Expiration time' claim ('exp') is too far"}, status=401)
        self.seen.add(claims["jti"])
        return None


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
