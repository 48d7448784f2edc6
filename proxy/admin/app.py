"""The admin listener:

GET  /                              the status page
GET  /login/{credential}/{account}  explains; POST begins a login (the account may be left out)
GET  /callback                      ends it
POST /logout/…, POST /refresh/…     as named
GET  /api/status                    the same as JSON
GET  /metrics, /healthz, /readyz    for machines
"""

from __future__ import annotations

from typing import Final

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from proxy.admin import access, pages
from proxy.admin.login import LoginPages
from proxy.admin.status import Health
from proxy.relay.admission import Hosts
from proxy.state import State
from proxy.store.base import Key

MAX_FORM: Final = 16 * 1024  # bytes; the forms here have one field


def admin_application(state: State, hosts: Hosts, health: Health) -> web.Application:
    app = web.Application(
        middlewares=[access.with_headers, access.only_own_hosts(hosts)], client_max_size=MAX_FORM
    )
    app.add_routes(StatusPages(state, health).routes())
    app.add_routes(LoginPages(state).routes())
    app.router.add_get("/metrics", make_aiohttp_handler(state.metrics.registry))
    return app


def callback_application(state: State, hosts: Hosts) -> web.Application:
    """The callback alone, for a command that waits for it where no server runs."""
    app = web.Application(middlewares=[access.with_headers, access.only_own_hosts(hosts)])
    app.router.add_get("/callback", LoginPages(state).callback)
    return app


class StatusPages:
    """What there is to see."""

    def __init__(self, state: State, health: Health) -> None:
        self._clock = state.clock
        self._public_url = state.config.public_url
        self._health = health

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.page),
            web.get("/style.css", self.stylesheet),
            web.get("/api/status", self.status),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
        ]

    async def page(self, request: web.Request) -> web.Response:
        browser = access.browser_of(request)
        html = pages.status_page(self._health, self._clock.wall(), access.csrf_token(browser))
        response = web.Response(text=html, content_type="text/html")
        access.remember(response, browser, secure=self._public_url.startswith("https:"))
        return response

    async def stylesheet(self, _request: web.Request) -> web.Response:
        return web.Response(text=pages.stylesheet(), content_type="text/css")

    async def status(self, request: web.Request) -> web.Response:
        credential, _, account = request.query.get("after", "").partition("/")
        after = Key(credential, account) if account else None
        return web.json_response(self._health.status(self._clock.wall(), after))

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(self, _request: web.Request) -> web.Response:
        reasons = self._health.not_ready()
        if self._health.draining or reasons:
            return web.json_response({"ready": False, "reasons": reasons}, status=503)
        return web.json_response({"ready": True, "reasons": []})
