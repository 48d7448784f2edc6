"""`token-proxy exec`: start a program with the base URLs of the routes in its environment.

a server of this configuration runs   this process becomes the program
else                                  it serves on loopback itself, and the program is its child
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from proxy.commands import hardening
from proxy.commands.child import replace_process
from proxy.commands.child_environment import child_environment
from proxy.commands.route_urls import base_urls, unusable
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.control_socket import ServerEntry, find_server

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
            raise unusable(
                config,
                f"routes {owner!r} and {route.name!r} have the variable {route.variable} - give one of them "
                "another by `env`",
            )


def _hint_at_callers(config: Config, caller: str | None, say: Say) -> None:
    if caller is None and config.callers and not any(each.is_network for each in config.callers.values()):
        names = ", ".join(sorted(config.callers))
        say(f"hint: callers are identified, so that the program needs a key: --caller gives it one ({names})")
