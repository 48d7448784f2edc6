"""Fixtures: an authorization server on a free port, and a client that follows RFC 6749."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

import aiohttp
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from proxy.demo.authorization_server import AuthorizationServer, Client
from proxy.demo.serve import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

CALLBACK = "http://127.0.0.1:8081/callback"
VERIFIER = "v" * 43
CLIENTS = (
    Client("web", "s3cret", redirect_uris=(CALLBACK,), scopes=("api", "mail")),
    Client("cli", auth_method="none", redirect_uris=(CALLBACK,)),
    Client("robot", "s3cret", grants=("client_credentials",)),
)


class HandClock:
    """A clock that stands still until it is moved."""

    boot_id = "the only boot"

    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return self.now

    def boot(self) -> float:
        return self.now


class World:
    """The server, with the actions of a browser and of the client `web`."""

    def __init__(self, server: AuthorizationServer, http: aiohttp.ClientSession, clock: HandClock) -> None:
        self.server = server
        self.http = http
        self.clock = clock

    def authorize_query(self, **changes: str | None) -> dict[str, str]:
        query = {
            "response_type": "code",
            "client_id": "web",
            "redirect_uri": CALLBACK,
            "scope": "api",
            "state": "xyz",
            "code_challenge": create_s256_code_challenge(VERIFIER),
            "code_challenge_method": "S256",
            **changes,
        }
        return {name: value for name, value in query.items() if value is not None}

    async def click(self, user: str, **changes: str | None) -> dict[str, str]:
        """Press the button for `user` ("": refuse); return what the redirect tells the client."""
        query = self.authorize_query(**changes)
        async with self.http.post(
            "/authorize", params=query, data={"user": user}, allow_redirects=False
        ) as answer:
            assert answer.status == 302, await answer.text()
            location = urlsplit(answer.headers["Location"])
        assert location._replace(query="").geturl() == CALLBACK
        return dict(parse_qsl(location.query, strict_parsing=True))

    async def token(self, **form: str) -> tuple[int, dict[str, Any]]:
        """The token endpoint's response to the client `web`."""
        headers = {"Authorization": basic("web", "s3cret")}
        async with self.http.post("/token", data=form, headers=headers) as answer:
            return answer.status, await answer.json()

    async def exchange(self, code: str, verifier: str = VERIFIER) -> tuple[int, dict[str, Any]]:
        return await self.token(
            grant_type="authorization_code", code=code, redirect_uri=CALLBACK, code_verifier=verifier
        )

    async def refresh(self, refresh_token: str, **form: str) -> tuple[int, dict[str, Any]]:
        return await self.token(grant_type="refresh_token", refresh_token=refresh_token, **form)

    async def log_in(self) -> dict[str, Any]:
        status, tokens = await self.exchange((await self.click("alice"))["code"])
        assert status == 200
        return tokens


def basic(client_id: str, secret: str) -> str:
    """Basic credentials, form-encoded (RFC 6749 section 2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.fixture
def a_world() -> Callable[..., AbstractAsyncContextManager[World]]:
    """Create a world with the given options of the server."""

    @asynccontextmanager
    async def make(clients: tuple[Client, ...] = CLIENTS, **options: Any) -> AsyncIterator[World]:
        clock = HandClock()
        server = AuthorizationServer(clients=clients, users=("alice", "bob"), clock=clock, **options)
        async with running(server.application()) as url, aiohttp.ClientSession(url) as http:
            yield World(server, http, clock)

    return make


@pytest.fixture
async def world(a_world: Callable[..., AbstractAsyncContextManager[World]]) -> AsyncIterator[World]:
    async with a_world() as made:
        yield made
