"""Access to the admin listener: every request needs an accepted Host, a POST must come from our own page.

A POST must have our Origin and a CSRF token: a salted HMAC over a cookie that the page has set. The cookie is
SameSite=Lax, as the callback of a login is a navigation from another site.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Counter

from proxy import tasks
from proxy.admin import forms, pages
from proxy.config.address import DEFAULT_PORTS
from proxy.hosts import Hosts
from proxy.http.cookies import BROWSER_COOKIE
from proxy.relay.problems import HOST_REFUSED

STALE_FORM: Final = "This form is from another site, or older than the last restart. Load the page again"
_BROWSER: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 random bytes
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_KEY: Final = secrets.token_bytes(32)  # of this process: pages must be loaded again after a restart
_POLICY: Final = (
    f"default-src 'none'; style-src {pages.STYLE_SOURCE}; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": f"{_POLICY}; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would send "Origin: null" with our forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Browsers apply form-action to a form's redirects too, and a login redirects to any authorization server.
LOGIN_HEADERS: Final = {"Content-Security-Policy": _POLICY}


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """A signal handler: no response, errors included, is cached, framed, sniffed or may run scripts."""
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
        page = pages.message("Internal error", "This is a bug; the server's log has the details.")
        return web.Response(status=500, text=page, content_type="text/html")


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
    """The cookie that identifies this browser; empty if it has none of ours."""
    cookie = request.cookies.get(BROWSER_COOKIE, "")
    return cookie if _BROWSER.fullmatch(cookie) else ""


def new_browser() -> str:
    return secrets.token_urlsafe(32)


def form_page(
    request: web.Request,
    public_url: str,
    render: Callable[[str], str],
    *,
    browser: str = "",
    status: int = 200,
) -> web.Response:
    """A page with forms: `render` gets their CSRF token, which is valid for this browser only.

    `browser`: the new value of its cookie; if empty, it keeps the one it has.
    """
    browser = browser or browser_of(request) or new_browser()
    response = web.Response(text=render(csrf_token(browser)), content_type="text/html", status=status)
    set_browser(response, public_url, browser)
    return response


def set_browser(response: web.Response, public_url: str, browser: str) -> None:
    secure = public_url.startswith("https:")
    response.set_cookie(BROWSER_COOKIE, browser, httponly=True, samesite="Lax", secure=secure, path="/")


def csrf_token(browser: str, salt: str = "") -> str:
    """Salted, so that each page has another one, and what is read of one page is not in the next."""
    salt = salt or secrets.token_hex(16)
    return salt + hmac.new(_KEY, f"{salt}{browser}".encode(), hashlib.sha256).hexdigest()[:32]


async def check_post(request: web.Request, public_url: str) -> None:
    """Raises HTTPForbidden unless the request comes from one of our own pages, and as `forms.read`."""
    browser = browser_of(request)
    own = {origin_of(public_url), f"{request.scheme}://{request.host}"}
    if browser and request.headers.get("Origin") in own:
        given = (await forms.read(request)).get("csrf")
        if given is not None:
            expected = csrf_token(browser, salt=given[:32])
            if hmac.compare_digest(given.encode(), expected.encode()):
                return
    raise web.HTTPForbidden(text=pages.message("Request refused", STALE_FORM), content_type="text/html")


def origin_of(url: str) -> str:
    """As a browser writes it (RFC 6454 section 6.1): lower case, without a default port."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port not in {None, DEFAULT_PORTS[parts.scheme]} else ""
    return f"{parts.scheme}://{host}{port}"
