"""Tables and colours on a terminal: the only module that imports rich, which heeds NO_COLOR and TERM=dumb."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TextIO

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

UNLIMITED: Final = 10_000  # characters of a line, where nothing wraps lines
FIRST_LINE: Final = 2  # cells of a row that takes two lines

Cell = str | tuple[str, str]  # a text, and its style
Row = Sequence[Cell]


def grid(rows: Iterable[Row], stream: TextIO, *, indent: int = 0) -> str:
    """`rows` in columns, as text for `stream`. Where they don't fit, each row takes two lines.

    No cell is cut or folded: URLs and commands are there to be copied.
    """
    rows = list(rows)
    is_terminal = stream.isatty()
    output = io.StringIO()
    console = Console(
        file=output, force_terminal=is_terminal, width=None if is_terminal else UNLIMITED, highlight=False
    )
    widths = [max(map(len, map(_plain, column))) for column in zip(*rows, strict=True)]
    if sum(widths) + 2 * len(widths) + indent <= console.width:
        console.print(Padding(_table(rows), (0, 0, 0, indent)))
    else:
        for line in _lines(rows, indent):
            console.print(line, soft_wrap=True)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def _table(rows: Sequence[Row]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(_text, row))
    return table


def _lines(rows: Iterable[Row], indent: int) -> Iterator[RenderableType]:
    for row in rows:
        first, second = map(_text, row[:FIRST_LINE]), map(_text, row[FIRST_LINE:])
        yield Text(" " * indent) + Text("  ").join(first)
        yield Text(" " * (indent + 4)) + Text("  ").join(second)


def _text(cell: Cell) -> Text:
    return Text(cell) if isinstance(cell, str) else Text().append(*cell)


def _plain(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]
