"""An API that answers only to good access tokens (RFC 6750), whatever the method and path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

REALM: Final = "demo"


def api_application(
    active: Callable[[str], str | None],
    expires_in: Callable[[str], float] | None = None,
) -> web.Application:
    """`active` says whose token it is, or None; `expires_in` how many seconds a good one still has.

    No answer repeats the token.
    """

    async def serve(request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return _unauthorized()
        subject = active(token.strip())
        if subject is None:
            return _unauthorized("invalid_token")
        answer: dict[str, Any] = {
            "hello": subject,
            "method": request.method,
            "path": request.rel_url.raw_path,
            "bytes": await _count(request),
        }
        if expires_in is not None:
            answer["token_expires_in"] = round(expires_in(token.strip()))
        return web.json_response(answer)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    return app


async def _count(request: web.Request) -> int:
    return sum([len(chunk) async for chunk in request.content.iter_any()])


def _unauthorized(error: str | None = None) -> web.Response:
    """Section 3.1: a request without a token is told no error code."""
    challenge = f'Bearer realm="{REALM}"' + (f', error="{error}"' if error else "")
    body = {"error": error or "a bearer token is required"}
    return web.json_response(body, status=401, headers={"WWW-Authenticate": challenge})
