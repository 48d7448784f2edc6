"""The state of an account on a terminal: a symbol, a word and a colour, and what there is to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TextIO

from proxy.commands.terminal import Cell, can_show, link
from proxy.observe.status import Entry

_LOOKS: Final = {  # state -> symbol, the same in ASCII, colour
    "valid": ("✓", "+", "green"),
    "stale": ("↻", "~", "green"),
    "expired": ("!", "!", "yellow"),
    "absent": ("○", "-", "yellow"),
    "login_required": ("✗", "x", "red"),
    "misconfigured": ("✗", "x", "red"),
}
_UNKNOWN: Final = ("?", "?", "red")


def state_cell(state: str, stream: TextIO) -> tuple[str, str]:
    """Text and style. Beside the colour a symbol says it; without a terminal the word alone, for programs."""
    symbol, plain, colour = _LOOKS.get(state, _UNKNOWN)
    word = state.replace("_", " ")
    if not stream.isatty():
        return word, ""
    return f"{symbol if can_show(symbol, stream) else plain} {word}", colour


def advice(entry: Entry) -> str:
    """The cause and the next step, as the diagnosis gives them; "" if there is nothing to report."""
    return "; ".join(part for part in (entry["reason"], entry["remedy"]) if part)


def mending(entry: Entry) -> Iterator[Cell]:
    """A line for an account with something to report: its name, the cause, the command and the URL."""
    yield f"{entry['credential']}/{entry['account']}", "bold"
    yield f": {advice(entry)}"
    if entry["login_url"]:
        yield ", or open "
        yield link(entry["login_url"])
