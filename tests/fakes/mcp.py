"""An MCP server and its authorization server, with whatever metadata a test wants.

    async with mcp_world() as world:          # RFC 9728, RFC 8414 and RFC 7591, as they should be
        world.mcp.documents["/.well-known/oauth-protected-resource/mcp"] = {…}
        world.auth.refuse_registration = (400, {"error": "invalid_redirect_uri"})

Both record what reached them. The authorization server is the demo's, which rotates and detects reuse.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.demo.authorization_server import AuthorizationServer, Client
from proxy.demo.serve import running

PLACE = "/.well-known/oauth-protected-resource"


class RegisteringServer(AuthorizationServer):
    """The demo's authorization server, with dynamic client registration."""

    def __init__(self, **options: Any) -> None:
        super().__init__(clients=(), **options)
        self.registrations: list[dict[str, Any]] = []  # the requests
        self.registered: list[str] = []  # the client ids
        self.response: dict[str, Any] = {}  # members that the response has instead
        self.refuse_registration: tuple[int, object] | None = None
        self.metadata: dict[str, Any] = {}  # members that it has instead; None: not at all
        self.without_metadata = False
        self.hits: list[str] = []

    @property
    def known(self) -> dict[str, Client]:
        """Its clients: to be forgotten."""
        return self._protocol._clients

    def application(self) -> web.Application:
        app = super().application()
        app.router.add_post("/register", self._register)
        app.middlewares.append(self._noted)
        return app

    @web.middleware
    async def _noted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.hits.append(f"{request.method} {request.path}")
        response: web.StreamResponse = await handler(request)
        return response

    async def _metadata(self, _request: web.Request) -> web.Response:
        if self.without_metadata:
            return web.Response(status=404)
        response = await super()._metadata(_request)
        document = json.loads(response.text or "")
        document |= {"registration_endpoint": f"{self.issuer}/register", **self.metadata}
        return web.json_response({name: value for name, value in document.items() if value is not None})

    async def _register(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.registrations.append(asked)
        if self.refuse_registration is not None:
            status, body = self.refuse_registration
            return web.json_response(body, status=status)
        method = self.response.get("token_endpoint_auth_method", asked["token_endpoint_auth_method"])
        client = Client(
            client_id=f"client-{len(self.registrations)}",
            client_secret="" if method == "none" else secrets.token_urlsafe(12),
            auth_method=method,
            redirect_uris=tuple(asked.get("redirect_uris", ())),
            grants=tuple(asked["grant_types"]),
            scopes=tuple(asked.get("scope", "api").split()),
        )
        self.known[client.client_id] = client
        self.registered.append(client.client_id)
        answer = {**asked, "client_id": client.client_id, "client_secret_expires_at": 0}
        if client.client_secret:
            answer["client_secret"] = client.client_secret
        return web.json_response({**answer, **self.response}, status=201)


@dataclass
class MCPServer:
    """Answers /mcp to those with a good token, else with a challenge."""

    auth: AuthorizationServer
    url: str = ""
    documents: dict[str, Any] = field(default_factory=dict)  # by path; a Response is sent as it is
    challenge: str = "Bearer"
    status: int = 0  # of everything, unless 0
    hits: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)  # those that reached it

    async def respond(self, request: web.Request) -> web.StreamResponse:
        self.hits.append(f"{request.method} {request.path}")
        if self.status:
            return web.Response(status=self.status)
        if request.path in self.documents:
            found = self.documents[request.path]
            return found if isinstance(found, web.Response) else web.json_response(found)
        if not request.path.startswith("/mcp"):
            return web.Response(status=404)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token:
            self.tokens.append(token)
        if self.auth.active(token) is None:
            return web.Response(status=401, headers={"WWW-Authenticate": self.challenge})
        return web.json_response({"subject": self.auth.active(token)})


@dataclass
class World:
    mcp: MCPServer
    auth: RegisteringServer


@asynccontextmanager
async def mcp_world(**options: Any) -> AsyncIterator[World]:
    """`options`: of the authorization server."""
    auth = RegisteringServer(**options)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(auth.application()))
        mcp = MCPServer(auth)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", mcp.respond)
        mcp.url = f"{await stack.enter_async_context(running(app))}/mcp"
        mcp.documents[f"{PLACE}/mcp"] = {"resource": mcp.url, "authorization_servers": [auth.issuer]}
        yield World(mcp, auth)
