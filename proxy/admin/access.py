"""Who may do what on the admin listener: our own Host for everything, our own page for a POST.

A POST must carry our Origin and a token that only a page of ours can know: an HMAC over a cookie that the
page set. The cookie of a login is Lax, for the callback is a navigation from another site.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from proxy.relay.admission import Hosts

BROWSER_COOKIE: Final = "token_proxy_browser"  # tells one browser from another; worth nothing elsewhere
_KEY: Final = secrets.token_bytes(32)  # of this process: a page from before a restart must be loaded anew
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def only_own_hosts(hosts: Hosts) -> Middleware:
    """A middleware: a page whose name was made to point here can read nothing (DNS rebinding)."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = request.transport.get_extra_info("sockname") if request.transport else None
        local_address = name[0] if isinstance(name, tuple) else ""
        if len(request.headers.getall("Host", [])) != 1 or hosts.read(request.host, local_address) is None:
            raise web.HTTPMisdirectedRequest(text="this server does not go by that Host\n")
        return await handler(request)

    return check


@web.middleware
async def with_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A middleware: nothing is cached, framed, sniffed, or allowed to run scripts."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        error.headers.update(HEADERS)
        raise
    response.headers.update(HEADERS)
    return response


def browser_of(request: web.Request) -> str:
    """The cookie that tells this browser from others, or a new one."""
    return request.cookies.get(BROWSER_COOKIE) or secrets.token_urlsafe(32)


def remember(response: web.StreamResponse, browser: str, *, secure: bool) -> None:
    response.set_cookie(BROWSER_COOKIE, browser, httponly=True, samesite="Lax", secure=secure, path="/")


def csrf_token(browser: str) -> str:
    return hmac.new(_KEY, browser.encode(), hashlib.sha256).hexdigest()


async def check_post(request: web.Request, public_url: str) -> None:
    """Raises HTTPForbidden unless one of our own pages sent this."""
    origin = request.headers.get("Origin", "")
    browser = request.cookies.get(BROWSER_COOKIE, "")
    form = await request.post()
    given = form.get("csrf", "")
    own = {public_url, f"{request.scheme}://{request.host}"}
    valid = isinstance(given, str) and hmac.compare_digest(given.encode(), csrf_token(browser).encode())
    if origin not in own or not browser or not valid:
        raise web.HTTPForbidden(
            text="this form is not from here, or from before a restart: load the page again\n"
        )
