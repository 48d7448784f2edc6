"""`token-proxy exec`: start a program with the base URLs of the routes in its environment.

a server of this configuration runs   this process becomes the program
else                                  it serves on loopback itself, and the program is its child
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from proxy.commands import hardening
from proxy.commands.child import replace_process
from proxy.commands.child_environment import child_environment
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.config.route_variables import VARIABLE
from proxy.control_socket import RouteEntry, ServerEntry, find_server
from proxy.errors import ConfigError, Fault
from proxy.hosts import is_localhost

LOOKUP: Final = 2.0  # seconds for the names of routes to be looked up, for warnings only
Say = Callable[[str], object]


def execute(
    known: Loaded, load: Callable[[], Loaded], command: Sequence[str], caller: str | None, say: Say
) -> int:
    """The command's exit code. Raises ConfigError, NotACaller, StoreError, CannotListen.

    `known`: the configuration without its secrets, which the running server alone needs. `load`: with them.
    """
    hardening.hide_memory()
    config = known.config
    _check_variables(config)
    _hint_at_callers(config, caller, say)
    server = find_server(config.server.state_dir)
    if server is None or not _is_ours(server, config, say):
        from proxy.commands.exec_server import beside_own_server  # noqa: PLC0415 (all of a server)

        return beside_own_server(load(), command, caller, say)
    key = None
    if caller is not None:
        key = _signed_key(load().config if config.store.key is not None else config, caller)
    urls = base_urls(config, server["routes"], say)
    for hint in server["hints"]:
        say(f"warning: {hint}")
    return replace_process(command, child_environment(os.environ, known.variables, urls, key))


def _signed_key(config: Config, caller: str) -> str:
    """Raises NotACaller, StoreError."""
    from proxy.commands.caller_key import sign_by_store  # noqa: PLC0415 (with all stores)

    return sign_by_store(config, caller)


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


def base_urls(config: Config, routes: Iterable[RouteEntry], say: Say) -> dict[str, str]:
    """The base URLs by variable. Raises ConfigError if there is none."""
    urls = {route["variable"]: route["base_url"] for route in routes if route["base_url"] is not None}
    if not urls:
        raise _unusable(config, "no route has a base URL - expected a route that listens on a port")
    for route in config.routes:
        if route.variable not in urls:
            say(f"warning: route {route.name} has no base URL, as it is on a unix socket or not yet served")
    for variable in urls:
        if not VARIABLE.fullmatch(variable):
            say(f"warning: no shell can read {variable}: give its route a `name`, or `env`")
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
