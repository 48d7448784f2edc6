"""What the fakes share: tokens with a lifetime, and an API that wants them."""

from __future__ import annotations

import secrets
from email.utils import formatdate

from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.clock import Clock, SystemClock


class TwoStep:
    """A login that is not OAuth's."""

    token_field = "Authorization"
    scheme = "Bearer "
    environment: dict[str, str]

    def __init__(self, clock: Clock | None = None, lifetime: float = 3600) -> None:
        self.clock = clock or SystemClock()
        self.lifetime = lifetime
        self.logins = 0  # successful ones
        self.requests: list[web.BaseRequest] = []  # of logins, the refused ones too
        self.fails_with: list[web.Response] = []  # instead of the next logins
        self._tokens: dict[str, float] = {}

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._note])
        app.on_response_prepare.append(self._tell_its_time)
        self.routes(app)
        app.router.add_get("/api/{path:.*}", self._api)
        return app

    def routes(self, app: web.Application) -> None:
        raise NotImplementedError

    def issue(self, prefix: str = "") -> str:
        self.logins += 1
        token = prefix + secrets.token_urlsafe(24)
        self._tokens[token] = self.clock.wall() + self.lifetime
        return token

    def active(self, token: str) -> bool:
        return self.clock.wall() < self._tokens.get(token, 0)

    def end_all(self) -> None:
        """As an administrator may: every token ends now."""
        self._tokens.clear()

    async def _tell_its_time(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(self.clock.wall(), usegmt=True)

    @web.middleware
    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/api/v1/resource"):
            self.requests.append(request)
            if self.fails_with:
                return self.fails_with.pop(0)
        return await handler(request)

    async def _api(self, request: web.Request) -> web.Response:
        value = request.headers.get(self.token_field, "")
        is_known = value.startswith(self.scheme) and self.active(value.removeprefix(self.scheme))
        return web.json_response({"ok": is_known}, status=200 if is_known else 401)
