"""`token-proxy status`: the status of a running server, or of the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, cast

import aiohttp
import click

from proxy.admin.pages import relative
from proxy.config.model import Config
from proxy.observe.health import Health
from proxy.observe.status import Entry, Status
from proxy.services import open_services

PATIENCE: Final = 2.0  # seconds for a server on this machine to respond
EVERY: Final = 2.0  # seconds, with --watch
COLUMNS: Final = ("CREDENTIAL", "ACCOUNT", "STATE", "EXPIRES", "REFRESH DUE", "ROUTES", "")
COLOURS: Final = {"valid": "green", "stale": "green", "expired": "yellow", "absent": "yellow"}
Say = Callable[[str], object]


async def show_status(config: Config, say: Say, *, as_json: bool, watch: bool) -> int:
    """Print the status; return 3 if an account needs a login, else 0. Raises StoreError."""
    while True:
        status = await ask_server(config) or await _ask_store(config)
        say(json.dumps(status, indent=2) if as_json else _table(status))
        if not watch:
            break
        await asyncio.sleep(EVERY)
    return 3 if any(_needs_login(entry) for entry in status["tokens"]) else 0


async def ask_server(config: Config) -> Status | None:
    """The status from the running server of this configuration; None if none runs here."""
    address = config.server.admin
    scheme = "https" if config.server.admin_tls else "http"
    connector = aiohttp.UnixConnector(address.path) if address.is_unix else None
    url = f"{scheme}://localhost" if address.is_unix else f"{scheme}://{address}"
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
            # Not verified: no secret is sent, and the certificate is for the name that browsers use.
            session.get(f"{url}/api/status", ssl=False, allow_redirects=False) as response,
        ):
            return _ours(await response.json(), config)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None


def _ours(status: Any, config: Config) -> Status | None:
    """None for another program at this address, or a server with another configuration."""
    ours = isinstance(status, dict) and status.get("version") == 1
    return cast("Status", status) if ours and set(status["counts"]) == set(config.credentials) else None


async def _ask_store(config: Config) -> Status:
    async with open_services(config) as state:
        await state.tokens.start()
        return await Health(state).status()


def _needs_login(entry: Entry) -> bool:
    return entry["state"] == "login_required" or entry["login_url"] is not None


def _table(status: Status) -> str:
    if not status["tokens"]:
        return "the configuration has no credentials yet"
    rows = [COLUMNS, *(_row(entry, status["now"]) for entry in status["tokens"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _row(entry: Entry, now: float) -> tuple[str, ...]:
    return (
        entry["credential"],
        entry["account"],
        entry["state"].replace("_", " "),
        relative(entry["expires_at"], now),
        relative(entry["refresh_due_at"], now),
        ", ".join(entry["routes"]),
        entry["reason"] or "",
    )


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    if row is not COLUMNS:
        cells[2] = click.style(cells[2], fg=COLOURS.get(row[2], "red"))  # plain where this is no terminal
    return "  ".join(cells).rstrip()
