"""The base URLs of routes for a program, with warnings of those that are of no use to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

from proxy.config.model import Config
from proxy.config.route_variables import VARIABLE
from proxy.control_socket import RouteEntry
from proxy.errors import ConfigError, Fault
from proxy.hosts import is_localhost

LOOKUP: Final = 2.0  # seconds for the names of routes to be looked up, for warnings only
Say = Callable[[str], object]


def unusable(config: Config, sentence: str) -> ConfigError:
    return ConfigError(config.place, [Fault(1, 1, sentence)])


def base_urls(config: Config, routes: Iterable[RouteEntry], say: Say) -> dict[str, str]:
    """The base URLs by variable. Raises ConfigError if there is none."""
    urls = {route["variable"]: route["base_url"] for route in routes if route["base_url"] is not None}
    if not urls:
        raise unusable(config, "no route has a base URL - expected a route that listens on a port")
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
