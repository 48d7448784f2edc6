"""Tables, colours and links on a terminal: the only module that imports rich, which heeds TERM=dumb.

Nothing that is shown reaches the terminal as a control character. Without a terminal there are no escape
sequences and no limit of width; with NO_COLOR there are no escape sequences either.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

UNLIMITED: Final = 10_000  # characters of a line, where nothing wraps lines
FIRST_LINE: Final = 2  # cells of a row that takes two lines
_UNPRINTABLE: Final = "\N{REPLACEMENT CHARACTER}"

Cell = str | tuple[str, str]  # a text, and its style
Row = Sequence[Cell]


def grid(rows: Iterable[Row], stream: TextIO, *, indent: int = 0) -> str:
    """`rows` in columns, as text for `stream`. Where they don't fit, each row takes two lines.

    No cell is cut or folded: URLs and commands are there to be copied.
    """
    return rendered(_Grid(list(rows), indent), stream)


def rendered(renderable: RenderableType, stream: TextIO) -> str:
    """As text for `stream`. A line that is too long is left to the terminal to wrap, so it can be copied."""
    output = io.StringIO()
    console_for(stream, output).print(renderable, soft_wrap=True)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def console_for(stream: TextIO, output: TextIO | None = None) -> Console:
    """Writes to `output` as is fit for `stream`."""
    is_terminal = stream.isatty()
    return Console(
        file=output or stream,
        force_terminal=is_terminal,
        width=None if is_terminal else UNLIMITED,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
    )


def can_redraw(stream: TextIO) -> bool:
    return stream.isatty() and not console_for(stream).is_dumb_terminal


@contextmanager
def live(stream: TextIO) -> Iterator[Callable[[RenderableType], None]]:
    """A function that replaces what it has drawn before, on a terminal that can redraw."""
    console = console_for(stream)
    with Live(
        console=console, auto_refresh=False, vertical_overflow="ellipsis", redirect_stdout=False
    ) as shown:
        yield lambda renderable: shown.update(renderable, refresh=True)


def can_show(text: str, stream: TextIO) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def printable(text: str) -> str:
    """Without what a terminal would obey instead of showing it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _UNPRINTABLE for each in text)


def line(*cells: Cell) -> Text:
    """Texts of different styles in one line."""
    return Text("").join(map(_text, cells))


def link(url: str) -> Cell:
    """A link (OSC 8) where the terminal knows them, else the text alone."""
    is_web = url.startswith(("http://", "https://")) and url.isprintable() and " " not in url
    return (url, f"link {url}") if is_web else url


class Sheet:
    """A table with a header. The last columns that do not fit are in a line of their own below each row.

    `columns`: the header of each, and its label in such a line. The first `heading` cells tell rows apart:
    where not even they and one more fit, each other cell has a line. `omit_empty`: without the columns that
    are empty in all rows.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        rows: Iterable[Row],
        *,
        heading: int,
        omit_empty: bool = False,
    ) -> None:
        rows = [*rows]
        kept = [
            number
            for number in range(len(columns))
            if not omit_empty or number < heading or any(_plain(row[number]) not in EMPTY for row in rows)
        ]
        self._columns = [list(columns.items())[number] for number in kept]
        self._rows = [[row[number] for number in kept] for row in rows]
        self._heading = heading

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        header = [(name, "bold") for name, _ in self._columns]
        widths = _widths([header, *self._rows])
        fitting = [
            count
            for count in range(self._heading + 1, len(widths) + 1)
            if sum(widths[:count]) + 2 * (count - 1) <= options.max_width
        ]
        shown = max(fitting, default=0)
        if shown:
            yield _padded(header[:shown], widths)
        for row in self._rows:
            yield _padded(row[:shown], widths) if shown else line(*_spaced(row[: self._heading]))
            named = list(zip((label for _, label in self._columns), row, strict=True))
            rest = [
                (f"{label} ", cell)
                for label, cell in named[shown or self._heading :]
                if _plain(cell) not in EMPTY
            ]
            lines = [rest] if shown else [[each] for each in rest]
            yield from (line("    ", *_flat(each)) for each in lines if each)


EMPTY: Final = ("", "–")  # noqa: RUF001 (an en dash for an empty cell)


class _Grid:
    def __init__(self, rows: Sequence[Row], indent: int) -> None:
        self._rows = rows
        self._indent = indent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        indent = " " * self._indent
        if _width(self._rows) + self._indent <= options.max_width:
            yield Padding(_table(self._rows), (0, 0, 0, self._indent))
            return
        for row in self._rows:
            yield line(indent, *_spaced(row[:FIRST_LINE]))
            yield line(f"{indent}    ", *_spaced(row[FIRST_LINE:]))


def _width(rows: Sequence[Row]) -> int:
    widths = _widths(rows)
    return sum(widths) + 2 * (len(widths) - 1)


def _widths(rows: Sequence[Row]) -> list[int]:
    return [max(cell_len(_plain(cell)) for cell in column) for column in zip(*rows, strict=True)]


def _padded(row: Row, widths: Sequence[int]) -> Text:
    """In columns, but for blanks at the end."""
    cells: list[Cell] = []
    for number, (cell, width) in enumerate(zip(row, widths, strict=False), start=1):
        blanks = width - cell_len(_plain(cell)) + 2 if number < len(row) else 0
        cells += cell, " " * blanks
    return line(*cells)


def _flat(pairs: Sequence[tuple[str, Cell]]) -> Iterator[Cell]:
    for number, (label, cell) in enumerate(pairs):
        yield f"   {label}" if number else label
        yield cell


def _table(rows: Sequence[Row]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(_text, row))
    return table


def _spaced(cells: Iterable[Cell]) -> Iterator[Cell]:
    for number, cell in enumerate(cells):
        if number:
            yield "  "
        yield cell


def _text(cell: Cell) -> Text:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return Text(printable(text), style)


def _plain(cell: Cell) -> str:
    return printable(cell if isinstance(cell, str) else cell[0])


__all__ = [
    "Cell",
    "Group",
    "Row",
    "Sheet",
    "can_redraw",
    "can_show",
    "console_for",
    "grid",
    "line",
    "link",
    "live",
    "printable",
    "rendered",
]
