"""`token-proxy exec` where no server of this configuration runs: serve on loopback while the program runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from proxy import caller_keys, fd_limits, startup
from proxy.commands.caller_key import sign_for
from proxy.commands.child import Child, keep_stderr_only
from proxy.commands.child_environment import child_environment
from proxy.commands.route_urls import base_urls
from proxy.commands.shared import run_async
from proxy.config.address import Address
from proxy.config.grants import REQUIREMENTS
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.observe import logs
from proxy.process import Process

LOOPBACK: Final = Address("127.0.0.1", 0)
_OF_A_SERVICE: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
Say = Callable[[str], object]


def beside_own_server(loaded: Loaded, command: Sequence[str], caller: str | None, say: Say) -> int:
    config = own_config(loaded.config)
    environ = dict(os.environ)
    child = Child(command)
    keep_stderr_only()
    for name in _OF_A_SERVICE:  # they are for the command
        os.environ.pop(name, None)

    def environment(server: Process) -> dict[str, str]:
        entry = server.entry()
        urls = base_urls(loaded.config, entry["routes"], say)
        for hint in entry["hints"]:
            say(f"warning: {hint}")
        secret = server.services.store.derive(caller_keys.PURPOSE)
        key = None if caller is None else sign_for(config, caller, secret)
        return child_environment(environ, loaded.variables, urls, key)

    logs.set_up(config.log)
    with logs.own_thread(config.log):
        return run_async(_serve_for(child, config, environment, say))


async def _serve_for(
    child: Child, config: Config, environment: Callable[[Process], Mapping[str, str]], say: Say
) -> int:
    """Serve while the child runs. Returns its exit code, even if the server fails meanwhile."""
    fd_limits.raise_limit(config.limits.connections)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def on_end(code: int) -> None:
        with suppress(RuntimeError):  # the server could not be started, and the loop is closed
            loop.call_soon_threadsafe(ended.set_result, code)

    child.watch(on_end)
    try:
        async with startup.running(Loaded(config, [], []), is_found=False) as server:
            if not server.has_page and needs_logins(config):
                say(_without_page(config))
            child.start(await asyncio.to_thread(environment, server))
            await ended
    except Exception as error:
        if not ended.done():
            raise
        logs.on_loop_exception(loop, {"message": "the server's end failed", "exception": error})
    return ended.result()


def _without_page(config: Config) -> str:
    is_kept = config.store.url.reveal() != "memory:"
    remedy = "log in by `token-proxy login`" if is_kept else "free it, as nobody can log in without the page"
    return f"{config.server.admin} is taken, so that there is no page: {remedy}"


def own_config(config: Config) -> Config:
    """For a server of our own: on loopback at free ports, and without unix sockets.

    Those are another server's, or may be; and a port in their place would let others in. Without TLS, as no
    certificate is for 127.0.0.1, unless it is by TLS that others are kept out.
    """
    server = config.server
    has_port = any(not address.is_unix for address in server.listen)
    tls = server.tls if server.tls is not None and server.tls.client_ca is not None else None
    changes = {"listen": (LOOPBACK,) if has_port else (), "tls": tls, "health": None}
    routes = [
        route.model_copy(update={"listen": LOOPBACK}) if route.listen else route
        for route in config.routes
        if route.listen is None or not route.listen.is_unix
    ]
    level = config.log.level if config.log.level == "error" else "warning"
    return config.model_copy(
        update={
            "server": server.model_copy(update=changes),
            "routes": tuple(routes),
            "log": config.log.model_copy(update={"level": level}),
        }
    )


def needs_logins(config: Config) -> bool:
    return any(REQUIREMENTS[credential.grant].logs_in for credential in config.credentials.values())
