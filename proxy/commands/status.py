"""`token-proxy status`: the status of a running server, or of the store."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Final

from proxy.admin.pages import relative
from proxy.commands.running_server import ask_server
from proxy.commands.terminal import Cell, grid
from proxy.config.model import Config
from proxy.oauth.grants.authorization_code import login_command
from proxy.observe.health import Health
from proxy.observe.status import Entry, Status
from proxy.services import open_services
from proxy.tokens.diagnosis import FAILED, FINE, LOGIN_NEEDED

EVERY: Final = 2.0  # seconds, with --watch
COLUMNS: Final = ("CREDENTIAL", "ACCOUNT", "STATE", "EXPIRES", "REFRESH DUE", "ROUTES", "")
COLOURS: Final = {"valid": "green", "stale": "green", "expired": "yellow", "absent": "yellow"}
Say = Callable[[str], object]


async def show_status(config: Config, say: Say, *, as_json: bool, watch: bool) -> int:
    """Returns 3 if a person must act for an account, else 1 if one can't serve, else 0. Raises StoreError."""
    while True:
        status = await ask_server(config) or await _ask_store(config)
        say(json.dumps(status, indent=2) if as_json else _table(status))
        if not watch:
            break
        await asyncio.sleep(EVERY)
    return max(map(_exit_code, status["tokens"]), default=FINE)


async def _ask_store(config: Config) -> Status:
    async with open_services(config) as services:
        await services.tokens.start()
        return await Health(services).status()


def _exit_code(entry: Entry) -> int:
    if entry["needs_person"]:
        return LOGIN_NEEDED
    return FINE if entry["serves"] else FAILED


def _table(status: Status) -> str:
    if not status["counts"]:
        return "the configuration has no credentials yet"
    rows = [_row(entry, status["now"]) for entry in status["tokens"]]
    shown = {entry["credential"] for entry in status["tokens"]}
    if status["next"] is None:
        rows += [_without_accounts(name) for name in status["counts"] if name not in shown]
    return grid([COLUMNS, *map(_coloured, rows)], sys.stdout)


def _row(entry: Entry, now: float) -> tuple[str, ...]:
    return (
        entry["credential"],
        entry["account"],
        entry["state"].replace("_", " "),
        relative(entry["expires_at"], now),
        relative(entry["refresh_due_at"], now),
        ", ".join(entry["routes"]),
        "; ".join(part for part in (entry["reason"], entry["remedy"]) if part),
    )


def _without_accounts(credential: str) -> tuple[str, ...]:
    """A credential whose requests name the account, before the first login."""
    remedy = f"no accounts yet; run `{login_command(credential, 'NAME')}`"
    return (credential, "-", "absent", relative(None, 0), relative(None, 0), "", remedy)


def _coloured(row: tuple[str, ...]) -> tuple[Cell, ...]:
    credential, account, state, *rest = row
    return (credential, account, (state, COLOURS.get(state, "red")), *rest)
