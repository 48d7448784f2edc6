"""The admin listener:

GET  /                              the status page: ?q= ?state= ?credential= ?after=
GET  /login/{credential}/{account}  describes the login; POST begins it (account: optional, or ?account=)
GET  /login/…?ticket=               begins the login of a command, once
GET  /callback[/{credential}]       ends it, or asks for confirmation; POST confirms or cancels
GET  /logout/…                      describes the logout; POST does it
POST /refresh/…                     refreshes now
GET  /events, /events/login/…       streams that keep the status page, and that of a device login, up to date
GET  /sign-in, POST                 a session, for the admin key
GET  /launch/{token}                a session, for a launch link
GET  /api/status                    the accounts as JSON, with the same query as the page
GET  /help[/{ending}]               what our own responses mean
GET  /metrics, /healthz, /readyz, /startupz    for machines
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from proxy.admin import access, forms, isolation, own_errors, pages, status_api
from proxy.admin.gate import only_known_visitors
from proxy.admin.help import HelpPages
from proxy.admin.isolation import FEED, MARKS, FeedMarks
from proxy.admin.live import STREAMS, Streams
from proxy.admin.login import LoginPages
from proxy.admin.logout import LogoutPages
from proxy.admin.probes import Probes
from proxy.admin.sessions import SESSIONS, Ground, Sessions, WaysIn
from proxy.admin.sign_in import SignInPages
from proxy.admin.status_feed import Seen, StatusFeed
from proxy.admin.status_page import Footer, Page, query_string, read_query
from proxy.hosts import Hosts
from proxy.observe.health import Health
from proxy.observe.query import Query
from proxy.services import Services


def admin_application(services: Services, hosts: Hosts, health: Health, probes: Probes) -> web.Application:
    app = _application(services, hosts)
    app[own_errors.HOME] = f"{services.config.public_url}/"
    app.add_routes(StatusPages(services, health, probes, app[STREAMS]).routes())
    app.add_routes(LoginPages(services).routes())
    app.add_routes(LogoutPages(services).routes())
    app.add_routes(SignInPages(services).routes())
    app.add_routes(HelpPages(services.config.public_url).routes())
    return app


def callback_application(services: Services, hosts: Hosts) -> web.Application:
    """Only what the login of a command needs, if no server runs."""
    app = _application(services, hosts)
    app.add_routes(LoginPages(services, has_status_page=False).command_routes())
    return app


def _application(services: Services, hosts: Hosts) -> web.Application:
    refused = services.metrics.refused
    isolated = isolation.only_navigations(services.config.public_url, refused)
    known = only_known_visitors(services.config)
    own_host = access.only_own_hosts(hosts, refused)
    checks = [access.no_surprises, own_host, access.pages_prepared, isolated, known]
    app = web.Application(middlewares=checks, client_max_size=forms.MAX_FORM)
    app[SESSIONS] = Sessions(services.config, services.store.derive("session"), services.clock)
    app[MARKS] = FeedMarks(services.store.derive("feed"))
    app[STREAMS] = Streams()
    app.on_response_prepare.append(access.add_headers)
    return app


class StatusPages:
    """The status page, the status as JSON, metrics and health."""

    def __init__(self, services: Services, health: Health, probes: Probes, streams: Streams) -> None:
        config, tokens = services.config, services.tokens
        self._health = health
        self._probes = probes
        self._footer = Footer(
            config.public_url,
            version("token-proxy"),
            str(config.path.absolute()) if config.path else "no configuration file",
        )
        self._feed = StatusFeed(streams, lambda: tokens.changes, services.clock, self._main)
        self._scrape = make_aiohttp_handler(services.metrics.registry)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.page),
            web.get(FEED, self.events, allow_head=False),
            web.get("/api/status", self.status),
            web.get("/metrics", self.metrics),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/startupz", self.startupz),
        ]

    async def page(self, request: web.Request) -> web.Response:
        query, visitor = read_query(request.query), access.visitor_of(request)
        browser = access.browser_of(request) or access.new_browser(request)
        ways_in = access.ways_in(request, visitor)
        render = partial(
            pages.status_page,
            await self._shown(query, ways_in),
            feed=request.app[MARKS].url(browser, query=query_string(query)),
            ways_in=ways_in,
            signed_in=visitor is not None and visitor.ground is Ground.SESSION,
        )
        return access.form_page(request, render, browser=browser)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The page, each time that it changes."""
        ways_in = access.ways_in(request, access.visitor_of(request))
        return await self._feed.stream(request, Seen(read_query(request.query), ways_in))

    async def _main(self, seen: Seen) -> str:
        page = await self._shown(seen.query, seen.ways_in)
        return pages.status_main(page, ways_in=seen.ways_in)

    async def _shown(self, query: Query, ways_in: WaysIn | None) -> Page:
        """`ways_in`: None for a known visitor."""
        status = await self._health.status(query)
        return Page(status, query, self._footer, shows_owners=ways_in is None)

    async def status(self, request: web.Request) -> web.Response:
        shows_owners = access.visitor_of(request) is not None
        return await status_api.status(request, self._health, shows_owners=shows_owners)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        await self._health.metrics()
        return await self._scrape(request)

    async def healthz(self, _request: web.Request) -> web.Response:
        return self._probes.healthz()

    async def readyz(self, _request: web.Request) -> web.Response:
        return self._probes.readyz()

    async def startupz(self, _request: web.Request) -> web.Response:
        return self._probes.startupz()
