"""Keep scripts out of the admin listener: a person's navigations pass, whatever else a page may send does not.

Browsers mark their requests (Fetch Metadata); a request without marks is a program's. Our pages have no
scripts: a request of a script in our own origin is one of another program, which has left a service worker in
the browser when it had this port, or serves pages on another port of this host (`same-site`).

What passes of a browser, by experiment with Chromium and Firefox:

GET   a navigation of a whole tab, from anywhere: the callback of a login comes from another site. From our own
      origin it must have been begun by the person (`Sec-Fetch-User`), as scripts can read a tab that they open,
      or be the status page loading itself again.
POST  a form of our own origin, sent off by the person. WebKit doesn't say so: there the CSRF token alone counts.

A worker that passes a navigation on (`fetch(event.request)`) sends `Sec-Fetch-Dest: empty`, and a preload for it
has a field of its own. Chromium, when it starts a worker, may give it a response to the person's own
navigation: what the worker reads there can't be sent off without the person's click.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Counter

from proxy.admin import access, pages
from proxy.relay.problems import BROWSER_REFUSED

REFUSED: Final = "This request was begun by a script or by another site. Open the page by the link"
AGAIN: Final = "again"  # in the query of the status page when it loads itself again
# It removes the workers and data of this origin, cookies excepted. Not in the response to a worker's own
# script: Firefox waits for the end of its update first, and hangs.
CLEAR: Final = {"Clear-Site-Data": '"storage"'}


def only_navigations(public_url: str, refused: Counter) -> Middleware:
    """A middleware: refuses what a browser sends for anything but a person's navigation."""
    home = f"{public_url}/"

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if may_pass(request):
            return await handler(request)
        refused.labels(BROWSER_REFUSED.ending).inc()
        page = pages.message("Request refused", REFUSED, home)
        headers = CLEAR if _shows_a_foreign_script(request) else None
        return web.Response(
            status=BROWSER_REFUSED.status, text=page, content_type="text/html", headers=headers
        )

    return check


def may_pass(request: web.Request) -> bool:
    headers = request.headers
    if "Service-Worker" in headers or "Service-Worker-Navigation-Preload" in headers:
        return False
    site = headers.get("Sec-Fetch-Site")
    if site is None:  # a program, or a browser on a plain name: there the Origin of reading scripts remains
        return request.method == "POST" or headers.get("Origin") in {None, _own_origin(request)}
    if headers.get("Sec-Fetch-Mode") != "navigate" or headers.get("Sec-Fetch-Dest") != "document":
        return False
    if request.method == "POST":
        return site == "same-origin" and _is_begun_by_person(request)
    if request.method not in {"GET", "HEAD"}:
        return False
    return site != "same-origin" or _is_begun_by_person(request) or _is_again(request)


def again(browser: str, query: str = "") -> str:
    """The target of the status page by which it loads itself again. `browser`: its cookie."""
    return f"/?{query}{'&' if query else ''}{AGAIN}={_mark(browser)}"


def _is_again(request: web.Request) -> bool:
    """The page can't be marked by the browser when it loads itself again: so the URL is one that we gave it."""
    browser, given = access.browser_of(request), request.query.get(AGAIN, "")
    return (
        bool(browser) and request.path == "/" and hmac.compare_digest(given.encode(), _mark(browser).encode())
    )


def _mark(browser: str) -> str:
    """Always the same for a browser, so that its history has one entry; it stands in URLs, so it is no token."""
    return hashlib.sha256(access.csrf_token(browser, salt=AGAIN.ljust(32, "-")).encode()).hexdigest()[:16]


def _is_begun_by_person(request: web.Request) -> bool:
    agent = request.headers.get("User-Agent", "")
    is_webkit = "AppleWebKit/" in agent and "Chrome/" not in agent  # which has no Sec-Fetch-User
    return is_webkit or request.headers.get("Sec-Fetch-User") == "?1"


def _shows_a_foreign_script(request: web.Request) -> bool:
    """Whether a script of our own origin has sent it; a browser asks for the icon of a page by itself."""
    headers = request.headers
    is_own = headers.get("Sec-Fetch-Site") == "same-origin" and headers.get("Sec-Fetch-Dest") != "image"
    return (is_own or "Service-Worker-Navigation-Preload" in headers) and "Service-Worker" not in headers


def _own_origin(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"
