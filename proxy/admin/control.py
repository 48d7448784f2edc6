"""The server's side of the control socket (control_socket.py).

    GET /server      what runs: version, process, configuration, the base URLs of the routes
    GET /api/status  as on the admin listener

A server does without it where it can't be made. While another server with this state_dir has it, the later
one waits for it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from aiohttp import web

from proxy import tasks
from proxy.admin import status_api
from proxy.admin.base_urls import base_url, listening
from proxy.config.address import Address
from proxy.config.model import Config
from proxy.control_socket import SOCKET, VERSION, ServerEntry, short_path
from proxy.hosts import LOOPBACK_NAMES
from proxy.listen import CannotListen, close, listen
from proxy.listeners import Listeners
from proxy.observe.health import Health
from proxy.store.files import make_private_directory

STARTED_AT: Final = time.time()
AGAIN: Final = 5.0  # seconds until the socket is tried for again
SHUTDOWN: Final = 1.0  # seconds for a response that is being sent when the process ends

_log = logging.getLogger("proxy.control")


def server_entry(config: Config, listeners: Listeners, names: Iterable[str], health: Health) -> ServerEntry:
    """`names`: what the Host field may have, beside loopback."""
    opened, accepted = listening(config, listeners), LOOPBACK_NAMES | set(names)
    return {
        "version": VERSION,
        "token_proxy": version("token-proxy"),
        "pid": os.getpid(),
        "config": str(config.path.absolute()) if config.path else None,
        "digest": config.digest,
        "routes": [
            {
                "name": route.name,
                "variable": route.variable,
                "base_url": base_url(route, opened, accepted),
            }
            for route in config.routes
        ],
        "hints": health.hints(),
        "started_at": STARTED_AT,
    }


def control_application(entry: Callable[[], ServerEntry], health: Health) -> web.Application:
    """`entry` is called for each request, as a reload changes it."""

    async def server(_request: web.Request) -> web.Response:
        return web.json_response(entry())

    async def status(request: web.Request) -> web.Response:
        return await status_api.status(request, health)

    app = web.Application()
    app.add_routes([web.get("/server", server), web.get("/api/status", status)])
    return app


@asynccontextmanager
async def offered(state_dir: Path, app: web.Application) -> AsyncIterator[None]:
    """Have the control socket within the block, if possible. A failure is logged, once."""
    tried = asyncio.Event()
    keeper = tasks.spawn(_keep(state_dir, app, tried), "control socket")
    try:
        await tried.wait()
        yield
    finally:
        await tasks.cancel(keeper)


async def _keep(state_dir: Path, app: web.Application, tried: asyncio.Event) -> None:
    """`tried`: set after the first attempt."""
    try:
        while True:
            try:
                await _serve(state_dir, app, tried)
            except (CannotListen, OSError) as error:
                if not tried.is_set():
                    _log_failure(error)
            tried.set()
            await asyncio.sleep(AGAIN)
    finally:
        tried.set()


async def _serve(state_dir: Path, app: web.Application, served: asyncio.Event) -> None:
    """Serve until it is cancelled. Raises CannotListen, OSError."""
    make_private_directory(state_dir)
    with short_path(state_dir) as path:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN)
        await runner.setup()
        try:
            await listen(runner, Address("", 0, str(path)), None)
            served.set()
            await asyncio.Event().wait()
        finally:
            await close(runner)


def _log_failure(error: Exception) -> None:
    cause = error if isinstance(error, OSError) else error.__cause__
    number = cause.errno if isinstance(cause, OSError) else None
    if number == errno.EADDRINUSE:
        _log.info("another server with this state_dir has %s: commands ask that one", SOCKET)
        return
    reason = os.strerror(number).lower() if number else "it can't be made"
    _log.info("no %s in state_dir (%s): commands can't find this server by it", SOCKET, reason)
