"""Access to the admin listener: a request needs an accepted Host, a POST a known visitor and a page of ours.

A POST must have our Origin and a CSRF token: a salted HMAC over a cookie that the page has set. The cookie is
SameSite=Lax, as the callback of a login is a navigation from another site. Visitors: see sessions.py. Beyond
this machine GETs need one as well.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Counter

from proxy import tasks
from proxy.admin import forms, own_errors, pages
from proxy.admin.sessions import SESSIONS, Ground, Visitor, WaysIn
from proxy.config.address import DEFAULT_PORTS
from proxy.hosts import Hosts
from proxy.relay.problems import HOST_REFUSED

STALE_FORM: Final = (
    "This form is of another site, or was shown to another person or browser. Load the page again"
)
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_POLICY: Final = (
    f"default-src 'none'; style-src {pages.STYLE_SOURCE}; script-src {pages.SCRIPT_SOURCE}; "
    "connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    **own_errors.HEADERS,
    "Content-Security-Policy": f"{_POLICY}; form-action 'self'",
}
# Browsers apply form-action to a form's redirects too, and a login redirects to any authorization server.
LOGIN_HEADERS: Final = {"Content-Security-Policy": _POLICY}


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """A signal handler: no response, errors included, is cached, framed, sniffed or runs foreign scripts."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.popall("Server", None)  # it has version numbers


@web.middleware
async def no_surprises(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A middleware: an unexpected exception is logged, and the response is an error page of ours."""
    try:
        return await handler(request)
    except (web.HTTPException, ConnectionError):
        raise
    except Exception as error:  # noqa: BLE001 (for any bug: an error page, and a traceback in the log)
        tasks.report("admin page", error, "an admin page failed")
        page = pages.message("Internal error", own_errors.SENTENCES[500], own_errors.home_of(request))
        return web.Response(status=500, text=page, content_type="text/html")


@web.middleware
async def pages_prepared(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A middleware: a browser's first request waits for the templates, and the event loop does not."""
    if not pages.is_prepared() and "text/html" in request.headers.get("Accept", ""):
        await asyncio.to_thread(pages.prepare)
    return await handler(request)


def only_own_hosts(hosts: Hosts, refused: Counter) -> Middleware:
    """A middleware: refuses unknown Host values, against DNS rebinding."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.transport.get_extra_info("sockname") if request.transport else None
        local_address = name[0] if isinstance(name, tuple) else ""
        given = request.headers.getall("Host", [])
        names = [*given, *_in_target(request.raw_path)]
        if len(given) != 1 or any(hosts.read(each, local_address) is None for each in names):
            refused.labels(HOST_REFUSED.ending).inc()
            return web.Response(status=HOST_REFUSED.status, text="this server does not accept that Host\n")
        return await handler(request)

    return check


def _in_target(target: str) -> list[str]:
    """The authority of an absolute-form target: it takes precedence over Host (RFC 9112 section 3.2.2)."""
    absolute = _ABSOLUTE.match(target)
    return [absolute[1]] if absolute else []


def browser_of(request: web.Request) -> str:
    """Identifies this browser and, where it is known, the person; empty without a cookie of ours."""
    return request.app[SESSIONS].browser_of(request)


def new_browser(request: web.Request) -> str:
    return request.app[SESSIONS].new_browser(request)


def form_page(
    request: web.Request, render: Callable[[str], str], *, browser: str = "", status: int = 200
) -> web.Response:
    """A page with forms: `render` gets their CSRF token, which is valid for this browser only.

    `browser`: the new value of its cookie; if empty, it keeps the one it has.
    """
    sessions = request.app[SESSIONS]
    browser = browser or sessions.browser_of(request) or sessions.new_browser(request)
    page = render(sessions.csrf_token(browser))
    response = web.Response(text=page, content_type="text/html", status=status)
    sessions.set_browser(response, browser)
    return response


def html(text: str, status: int = 200) -> web.Response:
    """A page without forms."""
    return web.Response(text=text, content_type="text/html", status=status)


def see_other(url: str) -> web.Response:
    """RFC 9110 section 15.4.4: the browser requests `url` with GET."""
    return web.Response(status=303, headers={"Location": url})


def set_browser(request: web.Request, response: web.Response, browser: str) -> None:
    request.app[SESSIONS].set_browser(response, browser)


def visitor_of(request: web.Request) -> Visitor | None:
    return request.app[SESSIONS].visitor(request)


def ways_in(request: web.Request, visitor: Visitor | None) -> WaysIn | None:
    """How this visitor can get a session; None: no need, it may do all that a page offers."""
    return None if visitor else request.app[SESSIONS].ways_in()


async def check_post(request: web.Request, public_url: str) -> None:
    """Raises HTTPForbidden unless the request comes from one of our own pages, sent by a known visitor.

    A program with the admin key needs no page: no browser sends that by itself. Raises as `forms.read`, too.
    """
    sessions = request.app[SESSIONS]
    visitor = sessions.visitor(request)
    if visitor is not None and visitor.ground is Ground.KEY:
        return
    await check_form(request, public_url)
    if visitor is None:
        page = pages.refused_page(sessions.ways_in(), own_errors.home_of(request))
        raise web.HTTPForbidden(text=page, content_type="text/html")


async def check_form(request: web.Request, public_url: str) -> None:
    """Raises HTTPForbidden unless the request comes from one of our own pages, and as `forms.read`."""
    sessions = request.app[SESSIONS]
    browser = sessions.browser_of(request)
    own = {origin_of(public_url), f"{request.scheme}://{request.host}"}
    if browser and request.headers.get("Origin") in own:
        given = (await forms.read(request)).get("csrf")
        if given is not None:
            expected = sessions.csrf_token(browser, salt=given[:32])
            if hmac.compare_digest(given.encode(), expected.encode()):
                return
    page = pages.message("Request refused", STALE_FORM, own_errors.home_of(request))
    raise web.HTTPForbidden(text=page, content_type="text/html")


def origin_of(url: str) -> str:
    """As a browser writes it (RFC 6454 section 6.1): lower case, without a default port."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port not in {None, DEFAULT_PORTS[parts.scheme]} else ""
    return f"{parts.scheme}://{host}{port}"
