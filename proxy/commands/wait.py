"""`token-proxy wait`: until a running server is ready; for scripts, compose files and HEALTHCHECK.

Another program may listen at that address: of what it sends, only that is shown which `status` shows too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, Literal

import aiohttp

from proxy.admin.probes import DRAINING, STARTING
from proxy.commands.progress import progress, terminal
from proxy.commands.running_server import ask, ask_server, body_of
from proxy.config.address import Address
from proxy.config.model import Config
from proxy.errors import ProxyError
from proxy.hosts import reachable
from proxy.observe.status import Entry

Wanted = Literal["ready", "startup", "healthy"]
Reason = dict[str, str]  # of /readyz

PATHS: Final[dict[Wanted, str]] = {"ready": "/readyz", "startup": "/startupz", "healthy": "/healthz"}
ONE_LOOK: Final = 5.0  # seconds for a response; a server that is busy starting has that time
SHORTEST_LOOK: Final = 0.5  # seconds, when the time is nearly over
PAUSE: Final = 0.25  # seconds between two looks
READY: Final = 0


class NotReady(ProxyError):
    """The server is not what was waited for; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Look:
    """The response of the server. `status` 0: none, and `body` is empty."""

    status: int = 0
    body: bytes = b""
    is_slow: bool = False


async def wait(config: Config, wanted: Wanted, timeout: float) -> int:  # noqa: ASYNC109 (the command's own)
    """Look until the server is `wanted`, for `timeout` seconds; 0: look once. Raises NotReady."""
    address = _address(config)
    began = time.monotonic()
    left = timeout
    on_terminal = terminal(sys.stderr) if timeout else None
    async with progress(f"waiting until {address} is {wanted}", timeout, on_terminal):
        while True:
            seconds = ONE_LOOK if not timeout else min(ONE_LOOK, max(left, SHORTEST_LOOK))
            look = await _look(config, address, PATHS[wanted], seconds)
            if look.status == HTTPStatus.OK:
                return READY
            left = timeout - (time.monotonic() - began)
            if left <= 0:
                break
            await asyncio.sleep(min(PAUSE, left))
    after = f" after {timeout:g} s" if timeout else ""
    raise NotReady(f"not {wanted}{after}: {await _reason(config, address, PATHS[wanted], look)}")


def _address(config: Config) -> Address:
    """The listener with the probes. Raises NotReady if it would refuse us."""
    server = config.server
    address = server.health or server.admin
    asks_certificate = server.admin_tls is not None and server.admin_tls.client_ca is not None
    if server.health is None and asks_certificate and not server.has_other_ways_in:
        raise NotReady(
            "the admin listener asks for a client certificate: expected server.health, to be asked"
        )
    return replace(address, host=reachable(address.host))


async def _look(config: Config, address: Address, path: str, seconds: float) -> Look:
    tls = config.server.health is None and config.server.admin_tls is not None
    try:
        async with ask(address, path, tls=tls, seconds=seconds) as response:
            return Look(response.status, await body_of(response))
    except TimeoutError:
        return Look(is_slow=True)
    except (aiohttp.ClientError, OSError, ValueError):
        return Look()


async def _reason(config: Config, address: Address, path: str, look: Look) -> str:
    if look.is_slow:
        return f"{address} accepts connections, but does not respond: see the log of `token-proxy run`"
    if look.status == 0:
        return f"no server responds at {address}: expected `token-proxy run` with this configuration"
    if look.status != HTTPStatus.SERVICE_UNAVAILABLE:
        return f"what listens at {address} does not know {path}: expected token-proxy of this version"
    if path != PATHS["ready"]:
        return _OF_PROCESS[STARTING]
    reasons = _reasons(look.body)
    states = {each.get("state") for each in reasons if "credential" not in each}
    for state, sentence in _OF_PROCESS.items():
        if state in states:
            return sentence
    return await _of_accounts(config, reasons)


_OF_PROCESS: Final = {
    STARTING: "the server is starting: its store or a listener is not up yet, see its log",
    DRAINING: "the server is stopping",
}


def _reasons(body: bytes) -> list[Reason]:
    try:
        found = json.loads(body)["reasons"]
    except (ValueError, KeyError, TypeError, RecursionError):  # of another program
        return []
    return [each for each in found if _is_reason(each)] if isinstance(found, list) else []


def _is_reason(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


async def _of_accounts(config: Config, reasons: list[Reason]) -> str:
    """The first account that can't serve, as `status` describes it."""
    status = await ask_server(config)
    entries = status["tokens"] if status is not None else []
    found = [entry for reason in reasons for entry in entries if _is_meant(entry, reason)]
    names = [each["credential"] for each in reasons if each.get("credential") in config.credentials]
    if found:
        first, more = _described(found[0]), len(found) - 1
    elif names:
        first, more = f"credential {names[0]} has no valid token - run `token-proxy status`", len(names) - 1
    else:
        return "a required credential has no valid token - run `token-proxy status`"
    return f"{first} (and {more} more: run `token-proxy status`)" if more else first


def _is_meant(entry: Entry, reason: Reason) -> bool:
    """`reason` names no account where the health listener names none."""
    same = entry["credential"] == reason.get("credential")
    return same and not entry["serves"] and reason.get("account") in {None, entry["account"]}


def _described(entry: Entry) -> str:
    name = f"{entry['credential']}/{entry['account']}"
    return f"{name} is {entry['state'].replace('_', ' ')}: " + "; ".join(
        part for part in (entry["reason"], entry["remedy"]) if part
    )
