"""What `run` prints on a terminal when it is ready."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Final, TextIO

from proxy.admin.pages import relative
from proxy.admin.summary import ServedRoute, Summary
from proxy.commands.states import advice, state_cell
from proxy.commands.terminal import Cell, Row, grid, line, link, printable, rendered
from proxy.observe.status import Entry

LISTED: Final = 20  # routes; more would scroll the rest away


def start_summary(summary: Summary, stream: TextIO) -> str:
    """Version, file and store, then each route with its state, then the page."""
    head = [f"token-proxy {summary.version}", _short(summary.config), f"tokens: {_short(summary.store)}"]
    lines = [printable("   ".join(head))]
    if summary.routes:
        now = time.time()
        rows = (_row(route, now, stream) for route in summary.routes[:LISTED])
        lines.append(grid(rows, stream, indent=2))
    if len(summary.routes) > LISTED:
        lines.append(f"  and {len(summary.routes) - LISTED} more routes")
    return "\n".join([*lines, *(rendered(line(*cells), stream) for cells in _ending(summary))])


def _row(route: ServedRoute, now: float, stream: TextIO) -> tuple[Cell, ...]:
    state = _state(route.token, now, stream) if route.token is not None else ""
    return route.place, f"→ {route.upstream}", f"{route.credential}/{route.account}", state


def _state(token: Entry, now: float, stream: TextIO) -> Cell:
    words, style = state_cell(token["state"], stream)
    if token["serves"] and token["expires_at"] is not None:
        words += f", expires {relative(token['expires_at'], now)}"
    todo = advice(token)
    return (f"{words}: {todo}" if todo else words), style


def _ending(summary: Summary) -> Iterator[Row]:
    if not summary.routes:
        yield ("  there are no routes yet: every request gets a 404. Add [[routes]] to the configuration.",)
    waiting, all_of_them = len(summary.waiting), len(summary.tokens)
    serving = f"{waiting} of {all_of_them} accounts can't serve yet" if waiting else "all accounts can serve"
    yield "  status page  ", link(f"{summary.public_url}/"), f"   {serving}" if all_of_them else ""


def _short(place: str) -> str:
    """A path below the home directory as people write it."""
    home = os.environ.get("HOME", "").rstrip("/")
    return f"~{place.removeprefix(home)}" if home and place.startswith(f"{home}/") else place
