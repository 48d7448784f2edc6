"""`token-proxy exec`: start a program with the base URLs of the routes in its environment.

a server of this configuration runs   this process becomes the program
else                                  it serves on loopback itself, and the program is its child
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from proxy import caller_keys, fd_limits, process
from proxy.admin.control import RouteEntry, ServerEntry
from proxy.commands import hardening
from proxy.commands.caller_key import sign_for
from proxy.commands.child import Child, keep_stderr_only, replace_process
from proxy.commands.child_environment import child_environment
from proxy.commands.control_socket import find_server
from proxy.commands.shared import run_async
from proxy.config.address import Address
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.errors import ConfigError, Fault
from proxy.hosts import is_localhost
from proxy.observe import logs
from proxy.store.open import existing_key
from proxy.store.seal import derive

LOOPBACK: Final = Address("127.0.0.1", 0)
LOOKUP: Final = 2.0  # seconds for the names of routes to be looked up, for warnings only
_OF_A_SERVICE: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
Say = Callable[[str], object]


def execute(loaded: Loaded, command: Sequence[str], caller: str | None, say: Say) -> int:
    """The command's exit code. Raises ConfigError, NotACaller, StoreError, CannotListen."""
    hardening.hide_memory()
    config = loaded.config
    _check_variables(config)
    _hint_at_callers(config, caller, say)
    server = asyncio.run(find_server(config))
    if server is None or not _is_ours(server, config, say):
        return _beside_own_server(loaded, command, caller, say)
    key = None
    if caller is not None:
        secret = existing_key(config.store.url.reveal(), config.server.state_dir, config.store.key)
        key = sign_for(config, caller, derive(secret, caller_keys.PURPOSE))
    urls = _urls(config, server["routes"], say)
    for hint in server["hints"]:
        say(f"warning: {hint}")
    return replace_process(command, child_environment(os.environ, loaded.variables, urls, key))


def _is_ours(server: ServerEntry, config: Config, say: Say) -> bool:
    """Whether this server runs with our configuration, be it an earlier version of the file."""
    is_changed = server["digest"] != config.digest
    if not _is_same_file(server["config"], config.path) or (is_changed and config.path is None):
        other = server["config"] or "the environment"
        say(f"a server with another configuration ({other}) has this state_dir: starting one of our own")
        return False
    if is_changed:
        say(
            "warning: the configuration has changed since the running server read it, and its routes are "
            f"used as they were: reload it by `kill -HUP {server['pid']}`"
        )
    return True


def _is_same_file(path: str | None, ours: Path | None) -> bool:
    """None: no file, but the environment alone."""
    if path is None or ours is None:
        return path is None and ours is None
    with suppress(OSError):
        return ours.samefile(path)
    return str(ours.absolute()) == path


def _beside_own_server(loaded: Loaded, command: Sequence[str], caller: str | None, say: Say) -> int:
    config = own_config(loaded.config)
    environ = dict(os.environ)
    child = Child(command)
    keep_stderr_only()
    for name in _OF_A_SERVICE:  # they are for the command
        os.environ.pop(name, None)

    def environment(server: process.Process) -> dict[str, str]:
        entry = process.describe(server)
        urls = _urls(loaded.config, entry["routes"], say)
        for hint in entry["hints"]:
            say(f"warning: {hint}")
        secret = server.services.store.derive(caller_keys.PURPOSE)
        key = None if caller is None else sign_for(config, caller, secret)
        return child_environment(environ, loaded.variables, urls, key)

    logs.set_up(config.log)
    with logs.own_thread(config.log):
        return run_async(_serve_for(child, config, environment, say))


async def _serve_for(
    child: Child, config: Config, environment: Callable[[process.Process], Mapping[str, str]], say: Say
) -> int:
    """Serve while the child runs; its exit code, whatever becomes of the server then."""
    fd_limits.raise_limit(config.limits.connections)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def on_end(code: int) -> None:
        with suppress(RuntimeError):  # the server could not be started, and the loop is closed
            loop.call_soon_threadsafe(ended.set_result, code)

    child.watch(on_end)
    try:
        async with process.running(Loaded(config, [], []), page_required=False) as server:
            if not server.has_page and needs_logins(config):
                say(
                    f"{config.server.admin} is taken, so that there is no page: log in by `token-proxy login`"
                )
            child.start(await asyncio.to_thread(environment, server))
            await ended
    except Exception as error:
        if not ended.done():
            raise
        logs.on_loop_exception(loop, {"message": "the server's end failed", "exception": error})
    return ended.result()


def own_config(config: Config) -> Config:
    """For a server of our own: on loopback at free ports, without TLS, and without unix sockets.

    Those are another server's, or may be; and a port in their place would let others in.
    """
    has_port = any(not address.is_unix for address in config.server.listen)
    changes = {"listen": (LOOPBACK,) if has_port else (), "tls": None}
    routes = [
        route.model_copy(update={"listen": LOOPBACK}) if route.listen else route
        for route in config.routes
        if route.listen is None or not route.listen.is_unix
    ]
    level = config.log.level if config.log.level == "error" else "warning"
    return config.model_copy(
        update={
            "server": config.server.model_copy(update=changes),
            "routes": tuple(routes),
            "log": config.log.model_copy(update={"level": level}),
        }
    )


def needs_logins(config: Config) -> bool:
    return any(credential.grant == "authorization_code" for credential in config.credentials.values())


def _check_variables(config: Config) -> None:
    """Raises ConfigError if two routes have one variable by default; by `env` that is a fault anyway."""
    owners: dict[str, str] = {}
    for route in config.routes:
        owner = owners.setdefault(route.variable, route.name)
        if owner != route.name:
            raise _unusable(
                config,
                f"routes {owner!r} and {route.name!r} have the variable {route.variable} - give one of them "
                "another by `env`",
            )


def _unusable(config: Config, sentence: str) -> ConfigError:
    return ConfigError(config.place, [Fault(1, 1, sentence)])


def _hint_at_callers(config: Config, caller: str | None, say: Say) -> None:
    if caller is None and config.callers and not any(each.is_network for each in config.callers.values()):
        names = ", ".join(sorted(config.callers))
        say(f"hint: callers are identified, so that the program needs a key: --caller gives it one ({names})")


def _urls(config: Config, routes: Iterable[RouteEntry], say: Say) -> dict[str, str]:
    """The base URLs by variable. Raises ConfigError if there is none."""
    urls = {route["variable"]: route["base_url"] for route in routes if route["base_url"] is not None}
    if not urls:
        raise _unusable(config, "no route has a base URL - expected a route that listens on a port")
    for route in config.routes:
        if route.variable not in urls:
            say(f"warning: route {route.name} has no base URL, as it is on a unix socket or not yet served")
    names = {urlsplit(url).hostname or "" for url in urls.values()}
    unknown = _unknown(name for name in names if not _is_address(name))
    for variable, url in urls.items():
        if urlsplit(url).hostname in unknown:
            say(f"warning: {urlsplit(url).hostname} does not resolve here, so that {variable} is of no use")
    return urls


def _is_address(host: str) -> bool:
    return host == "localhost" or (is_localhost(host) and not host.endswith(".localhost"))


def _unknown(names: Iterable[str]) -> set[str]:
    """Those that the system can't resolve; after LOOKUP seconds the others count as known."""
    missing: set[str] = set()

    def look_up(name: str) -> None:
        try:
            socket.getaddrinfo(name, None)
        except (OSError, UnicodeError):
            missing.add(name)

    threads = [threading.Thread(target=look_up, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    end = time.monotonic() + LOOKUP
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return set(missing)
