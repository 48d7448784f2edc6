"""Beyond this machine the admin listener is for known visitors only.

Others get the probes, the help, what has a secret of its own in its URL (a callback, the ticket of a command,
a launch link), and the page to sign in. Without TLS of our own, only the proxy in front is served: keys and
cookies would pass the network in clear.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from proxy.admin import access, launch, own_errors, pages
from proxy.admin.help import is_help
from proxy.admin.sessions import SESSIONS
from proxy.config.model import Config
from proxy.tokens.login.logins import CALLBACK

PROBES: Final = frozenset({"/healthz", "/readyz", "/startupz"})
SIGN_IN: Final = "/sign-in"
WITH_KEY: Final = "expected Authorization: Bearer, with the admin key"
CHALLENGE: Final[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="token-proxy"'}  # RFC 6750 section 3


def only_known_visitors(config: Config) -> Middleware:
    """A middleware: refuses unknown visitors if the admin listener is not on this machine alone."""
    server = config.server

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in PROBES:
            return await handler(request)
        sessions = request.app[SESSIONS]
        if server.admin_tls is None and not sessions.is_trusted(request):
            return web.Response(status=403, text=f"use {config.public_url}\n")
        is_open = has_own_secret(request) or is_help(request.path)
        if is_open or sessions.visitor(request) is not None:
            return await handler(request)
        return _unknown(request)

    @web.middleware
    async def let_pass(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request)

    return let_pass if server.admin.is_local else check


def has_own_secret(request: web.Request) -> bool:
    """Whether a handler judges the request by itself."""
    path = request.path
    if path == SIGN_IN:
        return True
    if request.method not in {"GET", "HEAD"}:
        return False
    is_ticket = path.startswith("/login/") and "ticket" in request.query
    return is_ticket or path == CALLBACK or path.startswith((f"{CALLBACK}/", f"{launch.PATH}/"))


def _unknown(request: web.Request) -> web.Response:
    """For a person the page to sign in, for a program a challenge, if there is a key that meets it."""
    ways_in = request.app[SESSIONS].ways_in()
    status, challenge = (401, CHALLENGE) if ways_in.takes_key else (403, {})
    if "text/html" not in request.headers.get("Accept", ""):
        text = WITH_KEY if ways_in.takes_key else "\n".join(ways_in.sentences)
        return web.Response(status=status, headers=challenge, text=f"{text}\n")
    back_to = request.path if request.method == "GET" else "/"
    render = partial(pages.sign_in_page, ways_in, own_errors.home_of(request), back_to=back_to)
    response = access.form_page(request, render, status=status)
    response.headers.update(challenge)
    return response
