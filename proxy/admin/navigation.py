"""Navigations of a browser that begin or end a login: which of them count, and to which name they belong."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from proxy.admin.access import origin_of

_SPECULATIVE: Final = ("Sec-Purpose", "Purpose", "X-Moz")
# In the query of a redirect to public_url. A proxy in front may replace Host: then the redirected request
# looks like the first one, and must not be redirected again.
_MOVED: Final = "moved"


def check_meant(request: web.Request) -> None:
    """Refuse a page that a browser loads ahead of time, and a HEAD: nobody has asked for what it does.

    Raises HTTPServiceUnavailable, which keeps a browser from showing that page later; HTTPMethodNotAllowed.
    """
    if request.method == "HEAD":
        raise web.HTTPMethodNotAllowed("HEAD", ["GET"])
    if any("prefetch" in request.headers.get(name, "").lower() for name in _SPECULATIVE):
        raise web.HTTPServiceUnavailable(text="not loaded ahead of time\n")


def check_name(request: web.Request, public_url: str) -> None:
    """Redirect a GET under another allowed name to public_url, where the cookie and the callback will be.

    Raises HTTPTemporaryRedirect.
    """
    scheme = public_url.partition(":")[0]
    try:
        is_there = origin_of(f"{scheme}://{request.host}") == origin_of(public_url)
    except ValueError:  # an odd port, which no browser sends
        is_there = True
    if not is_there and _MOVED not in request.query:
        raise web.HTTPTemporaryRedirect(public_url + str(request.rel_url.update_query({_MOVED: "1"})))


def is_posted_elsewhere(request: web.Request, public_url: str) -> bool:
    """Whether the form of a POST was shown under another name than public_url."""
    return request.headers.get("Origin") != origin_of(public_url)
