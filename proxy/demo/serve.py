"""Serve an application for the length of a block: for the demo's servers, and those of tests."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from proxy import listen

BASE_URL: Final = web.AppKey("base_url", str)  # set before the startup signal of the application

_BACKLOG: Final = 4096  # pending connections; the kernel drops more for a second or longer
_STOP_AFTER: Final = 0.2  # seconds for requests in flight, as a scripted delay may be long


@asynccontextmanager
async def running(
    app: web.Application,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Yield the server's URL, without a trailing slash. Port 0: any free one.

    The access log is off: a request's target may hold an authorization code.
    """
    with socket.create_server((host, port), backlog=_BACKLOG) as listener:
        scheme = "https" if ssl_context else "http"
        app[BASE_URL] = f"{scheme}://{host}:{listener.getsockname()[1]}"
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_AFTER)
        await runner.setup()
        try:
            await web.SockSite(runner, listener, ssl_context=ssl_context, backlog=_BACKLOG).start()
            yield app[BASE_URL]
        finally:
            await listen.close(runner)
