"""The admin listener:

GET  /                              the status page
GET  /login/{credential}/{account}  describes the login; POST begins it (account: optional, or ?account=)
GET  /login/…?ticket=               begins the login of a command, once
GET  /callback[/{credential}]       ends it, or asks for confirmation; POST confirms or cancels
POST /logout/…, POST /refresh/…     as named
GET  /sign-in, POST                 a session, for the admin key
GET  /launch/{token}                a session, for a launch link
GET  /api/status                    the same as JSON
GET  /metrics, /healthz, /readyz, /startupz    for machines
"""

from __future__ import annotations

from functools import partial

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from proxy.admin import access, forms, isolation, pages, status_api
from proxy.admin.gate import only_known_visitors
from proxy.admin.login import LoginPages
from proxy.admin.probes import Probes
from proxy.admin.sessions import SESSIONS, Ground, Sessions
from proxy.admin.sign_in import SignInPages
from proxy.hosts import Hosts
from proxy.observe.health import Health
from proxy.observe.query import BadQueryError, Query
from proxy.services import Services


def admin_application(services: Services, hosts: Hosts, health: Health, probes: Probes) -> web.Application:
    app = _application(services, hosts)
    app.add_routes(StatusPages(services, health, probes).routes())
    app.add_routes(LoginPages(services).routes())
    app.add_routes(SignInPages(services).routes())
    return app


def callback_application(services: Services, hosts: Hosts) -> web.Application:
    """Only what the login of a command needs, if no server runs."""
    app = _application(services, hosts)
    app.add_routes(LoginPages(services, has_status_page=False).command_routes())
    return app


def _application(services: Services, hosts: Hosts) -> web.Application:
    refused = services.metrics.refused
    isolated = isolation.only_navigations(reloads(services), services.config.public_url, refused)
    known = only_known_visitors(services.config)
    own_host = access.only_own_hosts(hosts, refused)
    checks = [access.no_surprises, own_host, access.pages_prepared, isolated, known]
    app = web.Application(middlewares=checks, client_max_size=forms.MAX_FORM)
    app[SESSIONS] = Sessions(services.config, services.store.derive("session"), services.clock)
    app.on_response_prepare.append(access.add_headers)
    return app


def reloads(services: Services) -> isolation.Reloads:
    return isolation.Reloads(services.store.derive("status page"))


class StatusPages:
    """The status page, the status as JSON, metrics and health."""

    def __init__(self, services: Services, health: Health, probes: Probes) -> None:
        self._public_url = services.config.public_url
        self._health = health
        self._probes = probes
        self._reloads = reloads(services)
        routes = services.config.routes
        self._joinable = sorted({each.credential for each in routes if not isinstance(each.account, str)})
        self._scrape = make_aiohttp_handler(services.metrics.registry)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.page),
            web.get("/api/status", self.status),
            web.get("/metrics", self.metrics),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/startupz", self.startupz),
        ]

    async def page(self, request: web.Request) -> web.Response:
        status = await self._health.status(_query(request))
        visitor = access.visitor_of(request)
        render = partial(
            pages.status_page,
            status,
            self._joinable,
            self._public_url,
            ways_in=access.ways_in(request, visitor),
            signed_in=visitor is not None and visitor.ground is Ground.SESSION,
        )
        browser = access.browser_of(request) or access.new_browser(request)
        response = access.form_page(request, render, browser=browser)
        again = self._reloads.url(browser, request.query.get("after", ""))
        response.headers["Refresh"] = f"{pages.REFRESH}; url={again}"
        return response

    async def status(self, request: web.Request) -> web.Response:
        return await status_api.status(request, self._health)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        await self._health.metrics()
        return await self._scrape(request)

    async def healthz(self, _request: web.Request) -> web.Response:
        return self._probes.healthz()

    async def readyz(self, _request: web.Request) -> web.Response:
        return self._probes.readyz()

    async def startupz(self, _request: web.Request) -> web.Response:
        return self._probes.startupz()


def _query(request: web.Request) -> Query:
    """Everything, if a parameter has a value that it can't have: a page for people is no place to say so."""
    try:
        return Query.of(request.query)
    except BadQueryError:
        return Query()
