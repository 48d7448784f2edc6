"""A simple reverse proxy with a static token: aiohttp on both sides.

Run: python plain_aiohttp.py PORT UPSTREAM CA_FILE TOKEN
"""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
REPLACED = {"host", "authorization"}
PREFIX = "/api"
SESSION = web.AppKey("SESSION", aiohttp.ClientSession)


def kept(fields: CIMultiDict[str], dropped: set[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in fields.items() if name.lower() not in dropped)


def build(upstream: str, ca_file: str, token: str) -> web.Application:
    async def relay(request: web.Request) -> web.StreamResponse:
        fields = kept(CIMultiDict(request.headers), HOP_BY_HOP | REPLACED)
        fields["Authorization"] = f"Bearer {token}"
        target = URL(upstream + request.raw_path.removeprefix(PREFIX), encoded=True)
        body = request.content if request.body_exists else None
        async with request.app[SESSION].request(
            request.method, target, headers=fields, data=body, allow_redirects=False
        ) as answer:
            relayed = web.StreamResponse(
                status=answer.status,
                reason=answer.reason,
                headers=kept(CIMultiDict(answer.headers), HOP_BY_HOP),
            )
            await relayed.prepare(request)
            async for chunk in answer.content.iter_any():
                await relayed.write(chunk)
            await relayed.write_eof()
            return relayed

    async def session(app: web.Application) -> AsyncIterator[None]:
        app[SESSION] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=ca_file)),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60),
            auto_decompress=False,
        )
        yield
        await app[SESSION].close()

    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_route("*", PREFIX + "/{path:.*}", relay)
    return app


def main() -> None:
    port, upstream, ca_file, token = sys.argv[1:]
    web.run_app(
        build(upstream, ca_file, token),
        host="127.0.0.1",
        port=int(port),
        access_log=None,
        backlog=4096,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
