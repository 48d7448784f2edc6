"""Keep web pages out: a proxy on loopback can be reached by every page in the user's browser.

The Host must be one of ours, as DNS rebinding points a page's own name at 127.0.0.1 (hosts.py); and a request
that the browser marks as coming from a page is refused (Fetch Metadata, Origin), but for pages of the route's
`origins`. No page is ever served here, so one of "our own" origin is what another program has left in the
browser, such as a service worker, or what an upstream has sent.

Browsers send Fetch Metadata to loopback names, *.localhost and TLS only. On a plain listener under another
name they are known by their User-Agent, which a page can't change without a preflight. So is everywhere a
browser that sends our own Origin: Chromium sends no Fetch Metadata with WebSocket.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from proxy.hosts import is_localhost
from proxy.http import cors
from proxy.http.message import METHODS, RequestHead
from proxy.relay import problems
from proxy.relay.problems import AboutUs, Refusal

PAGE_MODES: Final = frozenset({b"no-cors", b"navigate"})  # not "cors": Node's fetch sends it without any page
# Of pages of `origins`: never those in which a response is used unread, as an image, a form or a page.
LISTED_MODES: Final = frozenset({b"cors", b"websocket"})
BROWSER: Final = b"Mozilla/"  # the beginning of every browser's User-Agent
_BROWSER_FIELD: Final = re.compile(rb"\r\n(?i:user-agent):[ \t]*Mozilla/")
NAVIGATED: Final = "this port is for programs, not for browsers: try curl; the status page is {}/"
FROM_PAGE: Final = (
    "this request comes from a web page, and only programs may call this proxy; to let a page call a route, "
    "list its origin in `origins` of the route"
)


class Pages(NamedTuple):
    """The pages that may call a route."""

    origins: frozenset[bytes]
    methods: tuple[bytes, ...] | None  # those that the route permits; None: all


NO_PAGES: Final = Pages(frozenset(), None)


def check(
    request: RequestHead, pages: Pages, host: str, public_url: str, *, is_tls: bool, has_safe_key: bool
) -> None:
    """Refuse a request of a web page, but for `pages`. `host`: as hosts.py read it.

    `has_safe_key`: the caller's key has come in a field that no page can set without a preflight.
    Raises Refusal; AboutUs for a preflight that is permitted.
    """
    index = request.fields.index
    origins = index.get(b"origin")
    is_marked = is_tls or is_localhost(host)  # browsers send Fetch Metadata
    is_own = origins is not None and is_marked and _are_own(origins, request.authority)
    if origins is not None and is_marked and len(origins) == 1 and origins[0] in pages.origins:
        _check_listed(request, pages, origins[0])
        return
    from_page = (
        b"sec-fetch-site" in index
        or any(value.lower() in PAGE_MODES for value in index.get(b"sec-fetch-mode", ()))
        or (origins is not None and not is_own)
        or ((is_own or not is_marked) and not has_safe_key and _is_browser(request.fields.block))
    )
    if from_page:
        raise _refused(NAVIGATED.format(public_url) if _is_navigation(request) else FROM_PAGE)


def _is_navigation(request: RequestHead) -> bool:
    """Whether a person looks at the response, as after typing a URL; a script can't read it."""
    index = request.fields.index
    modes = [value.lower() for value in index.get(b"sec-fetch-mode", ())]
    is_plain = not modes and b"sec-fetch-site" not in index  # of a browser that does not mark it
    return request.method == b"GET" and b"origin" not in index and (is_plain or modes == [b"navigate"])


def _are_own(origins: list[bytes], authority: str | None) -> bool:
    """Some programs send their target's own Origin, mostly with WebSocket."""
    own = {f"{scheme}://{authority}".encode("latin-1") for scheme in ("http", "https")}
    return own.issuperset(origins)


def _is_browser(block: bytes) -> bool:
    return BROWSER in block and _BROWSER_FIELD.search(block) is not None


def _check_listed(request: RequestHead, pages: Pages, origin: bytes) -> None:
    modes = [value.lower() for value in request.fields.index.get(b"sec-fetch-mode", ())]
    if not LISTED_MODES.issuperset(modes):
        raise _refused("pages of this origin may call this route by fetch in the mode cors, or by WebSocket")
    if b"websocket" in modes:
        return  # scripts see nothing of the response but the connection
    method = cors.requested_method(request.fields.block) if request.method == b"OPTIONS" else b""
    if method:
        any_other = tuple(({method} & METHODS) - problems.REFUSED_METHODS)
        permitted = any_other if pages.methods is None else pages.methods
        raise AboutUs(cors.preflight(request.fields.block, origin, permitted))
    request.page = origin


def _refused(detail: str) -> Refusal:
    return Refusal(problems.BROWSER_REFUSED, detail)
