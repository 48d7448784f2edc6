"""`token-proxy status`: the status of a running server, or of the store."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from proxy import control_socket
from proxy.commands.running_server import ask_server
from proxy.commands.status_table import Selection, Shown, needs_attention_at_end, sheet, signature
from proxy.commands.terminal import can_redraw, live, rendered
from proxy.config.model import Config
from proxy.observe.health import Health
from proxy.observe.query import LIMIT, Query
from proxy.observe.status import Entry, Status
from proxy.services import open_services
from proxy.tokens.diagnosis import FAILED, FINE, LOGIN_NEEDED

EVERY: Final = 2.0  # seconds, with --watch
LISTED: Final = 20  # accounts on a terminal; more would scroll the first ones away, which need attention
PAGES: Final = 200  # to look at for the exit code: 100 000 accounts, or a program that never stops
AROUND: Final = 6  # lines that are not of accounts
Say = Callable[[str], object]


async def show_status(config: Config, say: Say, selection: Selection, *, as_json: bool, watch: bool) -> int:
    """Returns 3 if a person must act for a selected account, else 1 if one can't serve, else 0.

    Raises StoreError, BadQueryError.
    """
    if watch and not as_json:
        await _watch(config, say, selection)
    shown = await look(config, selection)
    while watch:
        say(_json(shown))
        await asyncio.sleep(EVERY)
        shown = await look(config, selection)
    say(_json(shown) if as_json else rendered(sheet(shown, selection, sys.stdout), sys.stdout))
    return await _exit_code(config, shown.status, selection)


async def look(config: Config, selection: Selection, listed: int = LISTED) -> Shown:
    """`listed`: accounts at most on a terminal. Raises StoreError, BadQueryError."""
    fields = selection.fields(listed if sys.stdout.isatty() else LIMIT)
    status = await ask_server(config, fields)
    if status is None:
        return Shown(await _ask_store(config, fields), None, None)
    server = await asyncio.to_thread(control_socket.find_server, config.server.state_dir)
    began = server.get("started_at") if server is not None else None
    return Shown(status, config.public_url, began)


async def _ask_store(config: Config, fields: Mapping[str, str]) -> Status:
    query = Query.of(fields)
    async with open_services(config) as services:
        await services.tokens.start()
        return await Health(services).status(query)


async def _exit_code(config: Config, status: Status, selection: Selection) -> int:
    """Accounts that need attention come first: those beyond this page count, too."""
    code = max(map(_exit_code_of, status["tokens"]), default=FINE)
    for _ in range(PAGES):
        if code == LOGIN_NEEDED or not status["next"] or not needs_attention_at_end(status):
            break
        fields = {**selection.fields(LIMIT), "after": status["next"]}
        status = await ask_server(config, fields) or await _ask_store(config, fields)
        code = max(code, *map(_exit_code_of, status["tokens"]), FINE)
    return code


def _exit_code_of(entry: Entry) -> int:
    if entry["needs_person"]:
        return LOGIN_NEEDED
    return FINE if entry["serves"] else FAILED


def _json(shown: Shown) -> str:
    return json.dumps(shown.status, indent=2)


async def _watch(config: Config, say: Say, selection: Selection) -> None:
    """Redraw the status in place; without a terminal, print it when it has changed. Until a signal."""
    if can_redraw(sys.stdout):
        await _redraw(config, selection)
    before = None
    while True:
        shown = await look(config, selection)
        now = signature(shown)
        if now != before:
            say(f"{time.strftime('%Y-%m-%d %H:%M:%S')}")
            say(f"{rendered(sheet(shown, selection, sys.stdout), sys.stdout)}\n")
        before = now
        await asyncio.sleep(EVERY)


def _fitting() -> int:
    """Accounts for which the terminal has a row and a line of advice: what does not fit could not be seen."""
    return max(1, min(LISTED, (shutil.get_terminal_size().lines - AROUND) // 2))


async def _redraw(config: Config, selection: Selection) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    with live(sys.stdout) as draw:  # shows the cursor again at its end
        while not ended.is_set():
            shown = await look(config, selection, _fitting())
            draw(sheet(shown, selection, sys.stdout, f"{time.strftime('%H:%M:%S')}, Ctrl-C ends"))
            try:
                await asyncio.wait_for(ended.wait(), EVERY)
            except TimeoutError:
                continue
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
