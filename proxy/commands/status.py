"""`token-proxy status`: what a running server says of its tokens, or what the store holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from proxy.admin.pages import relative
from proxy.admin.status import Health
from proxy.config.model import Config
from proxy.state import open_state

PATIENCE: Final = 2.0  # seconds for a server on this machine to answer
EVERY: Final = 2.0  # seconds, with --watch
COLUMNS: Final = ("Credential", "Account", "State", "Expires", "Refresh due", "Routes", "")
STYLES: Final = {"valid": "green", "stale": "green", "expired": "yellow", "absent": "yellow"}
Say = Callable[[str], object]


async def show_status(config: Config, say: Say, *, as_json: bool, watch: bool) -> int:
    """Returns 3 if an account needs a login. Raises StoreError."""
    while True:
        status = await _ask_server(config) or await _ask_store(config)
        say(json.dumps(status, indent=2) if as_json else _table(status))
        if not watch:
            break
        await asyncio.sleep(EVERY)
    needs_login = any(entry["login_url"] for entry in status["tokens"])
    return 3 if needs_login else 0


async def _ask_server(config: Config) -> dict[str, Any] | None:
    """None if no server runs there."""
    address = config.server.admin
    scheme = "https" if config.server.admin_tls else "http"
    connector = aiohttp.UnixConnector(address.path) if address.is_unix else None
    url = f"{scheme}://localhost" if address.is_unix else f"{scheme}://{address}"
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
            session.get(f"{url}/api/status", ssl=False) as response,
        ):
            status: dict[str, Any] = await response.json()
            return status if status.get("version") == 1 else None
    except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError):
        return None


async def _ask_store(config: Config) -> dict[str, Any]:
    async with open_state(config) as state:
        await state.tokens.start()
        return Health(config, state.tokens).status(state.clock.wall())


def _table(status: dict[str, Any]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table(*COLUMNS, box=None)
    for entry in status["tokens"]:
        style = STYLES.get(entry["state"], "red")
        table.add_row(
            entry["credential"],
            entry["account"],
            f"[{style}]{entry['state']}[/]",
            relative(entry["expires_at"], status["now"]),
            relative(entry["refresh_due_at"], status["now"]),
            ", ".join(entry["routes"]),
            entry["reason"] or "",
        )
    console = Console()
    with console.capture() as capture:
        console.print(table if status["tokens"] else "no credentials in use")
    return capture.get().rstrip()
