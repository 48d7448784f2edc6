"""Error responses of the admin listener: fixed texts in place of aiohttp's, which quote the request."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from proxy.admin import pages

HOME: Final = web.AppKey("home", str)  # the address of the status page, in an application that has one
SENTENCES: Final = {
    400: "This request can't be read",
    404: "There is no such page here",
    405: "This page can't be used with that method",
    408: "The form did not arrive in time",
    413: "The form is too large",
    415: "Expected a form as application/x-www-form-urlencoded, in UTF-8 and without a content encoding",
    417: "The only expectation that this server meets is 100-continue",
    429: "Too many attempts. Wait as long as Retry-After says",
    431: "The request's header is too large. In a browser, delete this host's cookies and reload the page",
    500: "This is a bug; the server's log has the details",
}
# Also those of all pages, but for their policy: the signal access.add_headers does not reach responses to
# requests that can't be read.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would send "Origin: null" with our forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def raw(status: int) -> bytes:
    """A whole response as text, behind which the connection is closed."""
    known = HTTPStatus(status)
    body = _text(known).encode()
    fields = {
        **HEADERS,
        "Date": formatdate(usegmt=True),
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {known.phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def plain(status: int, sentence: str = "", *, allow: str = "") -> web.Response:
    """As text, whatever the client accepts. `sentence`: in place of the usual one, without a full stop."""
    headers = {"Allow": allow} if allow else None
    return web.Response(status=status, headers=headers, text=_text(HTTPStatus(status), sentence))


def replacing_errors(handler: Handler) -> Handler:
    """`handler`, but the errors that aiohttp raises become ours. Pages of ours are HTML or JSON, not text."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400 or error.content_type != "text/plain":
                raise
            return _response(request, error)

    return handle


def _response(request: web.Request, error: web.HTTPException) -> web.Response:
    status = HTTPStatus(error.status)
    kept = {name: value for name, value in error.headers.items() if not name.startswith("Content-")}
    if "text/html" in request.headers.get("Accept", ""):
        page = pages.message(status.phrase, SENTENCES.get(status, status.phrase), home_of(request))
        return web.Response(status=status, headers=kept, text=page, content_type="text/html")
    return web.Response(status=status, headers=kept, text=_text(status))


def home_of(request: web.Request) -> str:
    """The address of the status page, for a link; empty where there is none."""
    return request.app.get(HOME, "")


def _text(status: HTTPStatus, sentence: str = "") -> str:
    return f"{sentence or SENTENCES.get(status, status.phrase)}.\n"
