"""An API that requires a valid access token (RFC 6750), for any method and path."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.journal import ApiRequest, TokenRecord, Verdict, fingerprint

REALM: Final = "demo"
_SHOWN: Final = 12  # characters of a token: enough to see it change, and no echo of it


def api_application(server: AuthorizationServer) -> web.Application:
    """An API that requires tokens of `server` and records each request in its journal."""

    async def serve(request: web.Request) -> web.Response:
        token = _bearer_token(request)
        now = server.clock.boot()
        verdict, record = server.judge(token, now) if token is not None else ("missing", None)
        server.journal.note(_noted(now, request, token, verdict, record))
        if verdict != "good" or token is None or record is None or record.expires_at is None:
            return _unauthorized(None if verdict == "missing" else "invalid_token")
        return web.json_response(
            {
                "hello": record.subject,
                "method": request.method,
                "path": request.rel_url.raw_path,
                "bytes": await _count(request),
                "authorization": f"Bearer {token[:_SHOWN]}...",
                "token_expires_in": round(record.expires_at - now),
            }
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    return app


def _bearer_token(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _noted(
    now: float, request: web.Request, token: str | None, verdict: Verdict, record: TokenRecord | None
) -> ApiRequest:
    return ApiRequest(
        at=now,
        verdict=verdict,
        access_token=None if token is None else fingerprint(token),
        family=record.family if record else None,
        generation=record.generation if record else None,
        subject=record.subject if record else None,
        method=request.method,
        path=request.rel_url.raw_path,
    )


async def _count(request: web.Request) -> int:
    return sum([len(chunk) async for chunk in request.content.iter_any()])


def _unauthorized(error: str | None = None) -> web.Response:
    """A 401; without an error code for a request without a token (RFC 6750 section 3.1)."""
    challenge = f'Bearer realm="{REALM}"' + (f', error="{error}"' if error else "")
    body = {"error": error or "a bearer token is required"}
    return web.json_response(body, status=401, headers={"WWW-Authenticate": challenge})
