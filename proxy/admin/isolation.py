"""Keep scripts out of the admin listener: of what pages may send, only a person's navigations pass.

Browsers mark their requests (Fetch Metadata); a request without marks is a program's. Our own script only
opens feeds (live.py): any other script in our own origin is one of another program, which has left a service
worker in the browser when it had this port; `same-site` are the pages on other ports of this host. By
experiment with Chromium and Firefox, what passes of a browser is:

GET   A navigation of a whole tab, from anywhere: the callback of a login comes from another site. From our
      own origin it must have been begun by the person (`Sec-Fetch-User`), as a script can read a tab that it
      has opened.
GET   A feed, from our own origin, if its URL has the mark that only our own page has been given.
POST  A form of our own origin, sent by the person. WebKit does not mark that: there the CSRF token counts.

A worker that passes a navigation on (`fetch(event.request)`) sends `Sec-Fetch-Dest: empty`, and a preload for
it has a field of its own. When Chromium starts, it may give a worker the response to the person's own
navigation: the worker can't send a form with what it has read, unless the person clicks on its page.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Counter

from proxy.admin import access, pages
from proxy.relay.problems import BROWSER_REFUSED

SENTENCE: Final = "This request was begun by a script, or by another site. Open the page by this link instead"
FEED: Final = "/events"
MARK: Final = "mark"  # in the query of a feed
# It removes the workers and the data of this origin, but no cookies. Not in a response to `Service-Worker:
# script`: Firefox would wait for the end of the worker's update, which waits for the removal.
CLEAR: Final = {"Clear-Site-Data": '"storage"'}


class FeedMarks:
    """The URLs of feeds: each has a mark, which only a page of ours for this browser has."""

    def __init__(self, key: bytes) -> None:
        """`key`: derived from the store's key."""
        self._key = key

    def url(self, browser: str, path: str = "", query: str = "") -> str:
        """`browser`: its cookie. `path`: behind FEED."""
        mark = urlencode({MARK: self._mark(browser)})
        return f"{FEED}{path}?{query}&{mark}" if query else f"{FEED}{path}?{mark}"

    def is_one(self, request: web.Request) -> bool:
        """Whether a script of our own page has sent it."""
        browser, given = access.browser_of(request), request.query.get(MARK, "")
        is_feed = request.path == FEED or request.path.startswith(f"{FEED}/")
        is_ours = hmac.compare_digest(given.encode(), self._mark(browser).encode())
        return request.method == "GET" and is_feed and bool(browser) and is_ours

    def _mark(self, browser: str) -> str:
        return hmac.new(self._key, browser.encode(), hashlib.sha256).hexdigest()[:32]


MARKS: Final = web.AppKey("feed marks", FeedMarks)


def only_navigations(public_url: str, refused: Counter) -> Middleware:
    """A middleware: refuses what a browser sends for anything but a person's navigation."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if may_pass(request, request.app[MARKS]):
            return await handler(request)
        refused.labels(BROWSER_REFUSED.ending).inc()
        return web.Response(
            status=BROWSER_REFUSED.status,
            text=pages.message("Request refused", SENTENCE, f"{public_url}/"),
            content_type="text/html",
            headers=CLEAR if shows_foreign_script(request) else None,
        )

    return check


def may_pass(request: web.Request, marks: FeedMarks) -> bool:
    headers = request.headers
    if "Service-Worker" in headers or "Service-Worker-Navigation-Preload" in headers:
        return False
    site = headers.get("Sec-Fetch-Site")
    if site is None:
        # a program, or a browser on a plain name, where a script that is to read sends its Origin
        own = f"{request.scheme}://{request.host}"
        return request.method == "POST" or headers.get("Origin", own) == own
    mode, dest = headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")
    if (site, mode, dest) == ("same-origin", "cors", "empty"):
        return marks.is_one(request)
    if (mode, dest) != ("navigate", "document"):
        return False
    if request.method == "POST":
        return site == "same-origin" and is_begun_by_person(request)
    return site != "same-origin" or is_begun_by_person(request)


def is_begun_by_person(request: web.Request) -> bool:
    agent = request.headers.get("User-Agent", "")
    is_webkit = "AppleWebKit/" in agent and "Chrome/" not in agent  # it never sends Sec-Fetch-User
    return is_webkit or request.headers.get("Sec-Fetch-User") == "?1"


def shows_foreign_script(request: web.Request) -> bool:
    """Whether a script of our own origin has sent it: browsers themselves ask for a page's icon only."""
    headers = request.headers
    is_own = headers.get("Sec-Fetch-Site") == "same-origin" and headers.get("Sec-Fetch-Dest") != "image"
    return "Service-Worker" not in headers and (is_own or "Service-Worker-Navigation-Preload" in headers)
