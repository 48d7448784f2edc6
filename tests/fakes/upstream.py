"""An API behind TLS that requires a valid bearer token: python upstream.py --help.

It knows nothing of tokens itself: for each one it asks the authorization server (RFC 7662), so a token that
expired or was revoked there gets a 401 here. Prints one JSON line when it is ready.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import random
import ssl
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
from aiohttp import web

BLOCK = random.Random(0).randbytes(256 * 1024 - 8)  # noise, so that a repeated or lost piece can't go unseen
VERDICT_LIFE = 0.1  # seconds: a herd with one token asks once; a revoked token is noticed soon enough
SLOW_STEP = 0.01  # seconds between two reads of a slow reader

routes = web.RouteTableDef()
subject_key = web.RequestKey("subject", str)
fingerprint_key = web.RequestKey("fingerprint", str)


class Introspector:
    """The subject of a token, by introspection at the authorization server."""

    def __init__(self, endpoint: str, client_id: str, client_secret: str) -> None:
        self._endpoint = endpoint
        credentials = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}"}
        self._asked: dict[str, tuple[float, asyncio.Task[str | None]]] = {}

    async def subject(self, token: str) -> str | None:
        asked_at, verdict = self._asked.get(token, (0.0, None))
        if verdict is None or time.monotonic() - asked_at > VERDICT_LIFE:
            verdict = asyncio.create_task(self._ask(token))
            self._asked[token] = time.monotonic(), verdict
        return await asyncio.shield(verdict)  # the cancellation of one caller must not affect others

    async def _ask(self, token: str) -> str | None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._endpoint, data={"token": token}, headers=self._headers) as response,
        ):
            response.raise_for_status()
            claims: dict[str, Any] = await response.json()
        if not claims["active"]:
            return None
        # A person has `sub` or (django-oauth-toolkit) `username`; a machine is its own client.
        return str(claims.get("sub") or claims.get("username") or claims["client_id"])


def require_token(introspector: Introspector) -> Any:
    @web.middleware
    async def middleware(request: web.Request, handler: Any) -> web.StreamResponse:
        fields = request.headers.getall("Authorization", [])
        if len(fields) != 1 or not fields[0].startswith("Bearer "):
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        token = fields[0].removeprefix("Bearer ")
        subject = await introspector.subject(token)
        if subject is None:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        request[subject_key] = subject
        request[fingerprint_key] = hashlib.sha256(token.encode()).hexdigest()[:12]
        response: web.StreamResponse = await handler(request)
        return response

    return middleware


@routes.route("*", "/whoami")
async def whoami(request: web.Request) -> web.Response:
    body = await request.read()
    return web.json_response(
        {
            "subject": request[subject_key],
            "token": request[fingerprint_key],  # identifies tokens without showing them
            "method": request.method,
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    )


@routes.post("/echo")
async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type=request.content_type)


@routes.get("/download")
async def download(request: web.Request) -> web.StreamResponse:
    """`?size=` bytes; Content-Digest (RFC 9530) says what must arrive."""
    size = int(request.query["size"])
    digest = hashlib.sha256()
    for block in _blocks(size):
        digest.update(block)
    encoded = base64.b64encode(digest.digest()).decode()
    response = web.StreamResponse(headers={"Content-Digest": f"sha-256=:{encoded}:"})
    response.content_length = size
    await response.prepare(request)
    for block in _blocks(size):
        await response.write(block)
    return response


@routes.post("/upload")
async def upload(request: web.Request) -> web.Response:
    """Read slowly for the first `?slow_for=` seconds."""
    digest, size = hashlib.sha256(), 0
    slow_until = time.monotonic() + float(request.query.get("slow_for", "0"))
    async for piece in request.content.iter_any():
        digest.update(piece)
        size += len(piece)
        if time.monotonic() < slow_until:
            await asyncio.sleep(SLOW_STEP)
    return web.json_response({"sha256": digest.hexdigest(), "size": size})


@routes.get("/slow")
async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(float(request.query["seconds"]))
    return web.Response(text="at last\n")


def _blocks(size: int) -> Iterator[bytes]:
    number = 0
    while size > 0:
        block = number.to_bytes(8) + BLOCK
        yield block[:size]
        size -= len(block)
        number += 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", required=True, help="PEM: key and chain")
    parser.add_argument("--introspection-endpoint", required=True)
    parser.add_argument("--client-id", default="upstream")
    parser.add_argument("--client-secret", default="introspect")
    return parser.parse_args()


async def main() -> None:
    options = _options()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(options.certificate)
    introspector = Introspector(options.introspection_endpoint, options.client_id, options.client_secret)
    app = web.Application(middlewares=[require_token(introspector)], client_max_size=16 * 1024**2)
    app.add_routes(routes)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls, backlog=1024)
    await site.start()
    print(json.dumps({"event": "ready", "url": f"https://127.0.0.1:{site.port}"}), flush=True)
    await asyncio.Event().wait()  # until it is killed


if __name__ == "__main__":
    asyncio.run(main())
