"""Tables and colours on a terminal: the only module that imports rich.

NO_COLOR, TERM=dumb and the width of the terminal are rich's. Elsewhere lines are as long as they need to be.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

UNLIMITED: Final = 10_000  # characters, where nothing wraps lines

Cell = str | tuple[str, str]  # a text, and its style


def grid(rows: Iterable[Sequence[Cell]], stream: TextIO, *, indent: int = 0) -> str:
    """`rows` in columns, as text for `stream`. Only the last column is wrapped."""
    rows = list(rows)
    table = Table.grid(padding=(0, 2, 0, 0))
    for at in range(max(map(len, rows), default=0)):
        table.add_column(no_wrap=at < len(rows[0]) - 1, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else Text(*cell) for cell in row))
    is_terminal = stream.isatty()
    output = io.StringIO()
    console = Console(
        file=output, force_terminal=is_terminal, width=None if is_terminal else UNLIMITED, highlight=False
    )
    console.print(Padding(table, (0, 0, 0, indent)))
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())
