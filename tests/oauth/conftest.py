"""A client of authorization servers, and a server with scripted responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from proxy.config.model import Credential, Limits
from proxy.demo.serve import running
from proxy.oauth.endpoint import AuthorizationServers
from proxy.oauth.fetch import Fetcher
from proxy.secret import Secret
from tests.fakes.clock import FakeClock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def credential() -> Callable[..., Credential]:
    """A credential of the client `web`; a secret or a key is given as a plain string."""

    def make(**fields: Any) -> Credential:
        for name in ("client_secret", "client_key"):
            if name in fields:
                fields[name] = Secret(fields[name])
        return Credential.model_validate({"client_id": "web", "name": "crm", **fields})

    return make


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    """With times that a busy machine does not reach."""
    async with Fetcher(Limits(authorization_server_connect=30, authorization_server_total=60)) as made:
        yield made


@pytest.fixture
async def impatient() -> AsyncIterator[Fetcher]:
    """For servers that never respond."""
    async with Fetcher(Limits(authorization_server_connect=0.3, authorization_server_total=0.5)) as made:
        yield made


@pytest.fixture
def servers(fetcher: Fetcher, clock: FakeClock) -> AuthorizationServers:
    return AuthorizationServers(fetcher, clock)


@dataclass
class Puppet:
    """A server that responds to each path as in `answers`, and records its requests."""

    url: str = ""
    answers: dict[str, Handler] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        self.hits.append(f"{request.method} {request.path}")
        handler = self.answers.get(request.path)
        return web.Response(status=404) if handler is None else await handler(request)

    def says(self, path: str, document: object, status: int = 200) -> None:
        async def say(_request: web.Request) -> web.Response:
            return web.json_response(document, status=status)

        self.answers[path] = say


@pytest.fixture
def make_puppet() -> Callable[..., Any]:
    @asynccontextmanager
    async def make() -> AsyncIterator[Puppet]:
        puppet = Puppet()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", puppet.respond)
        async with running(app) as puppet.url:
            yield puppet

    return make


@pytest.fixture
async def puppet(make_puppet: Callable[..., Any]) -> AsyncIterator[Puppet]:
    async with make_puppet() as made:
        yield made


@pytest.fixture
def web_client(credential: Callable[..., Credential], puppet: Puppet) -> Credential:
    """A client of the puppet."""
    return credential(
        token_endpoint=f"{puppet.url}/token",
        revocation_endpoint=f"{puppet.url}/revoke",
        authorization_endpoint=f"{puppet.url}/authorize",
        client_secret="s",
    )
