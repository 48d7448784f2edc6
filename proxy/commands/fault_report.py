"""Faults of a configuration for people: the text of `Fault.render`, on a terminal with colours.

No control character of the file, or of its name, reaches the terminal.
"""

from __future__ import annotations

import os
from typing import Final, Literal, TextIO

import click

from proxy.errors import ConfigError, Fault

Level = Literal["error", "warning"]
_COLOURS: Final[dict[Level, str]] = {"error": "red", "warning": "yellow"}
_LINES_OF_SOURCE: Final = 2  # the line of the file, and the caret below it
_UNPRINTABLE: Final = "\N{REPLACEMENT CHARACTER}"


def all_faults(error: ConfigError, stream: TextIO) -> str:
    """Every fault, as text for `stream`."""
    return "\n".join(one_fault(fault, error.filename, stream) for fault in error.faults)


def one_fault(fault: Fault, filename: str, stream: TextIO, level: Level = "error") -> str:
    """A fault as text for `stream`."""
    lines = [_printable(line) for line in fault.render(filename).split("\n")]
    prefix = "" if level == "error" else f"{level}: "
    if not shows_colours(stream):
        return prefix + "\n".join(lines)
    colour = _COLOURS[level]
    source = lines[-_LINES_OF_SOURCE:] if fault.source.strip() else []
    first, *others = lines[: len(lines) - len(source)]
    level_shown = click.style(prefix, fg=colour, bold=True) if prefix else ""
    head = click.style(first, bold=True)
    return "\n".join([level_shown + head, *others, *(_source_line(line, colour) for line in source)])


def shows_colours(stream: TextIO) -> bool:
    """Whether it is a terminal with colours, and they are welcome (https://no-color.org)."""
    is_dumb = os.environ.get("TERM", "dumb") in {"", "dumb", "unknown"}
    return stream.isatty() and not is_dumb and not os.environ.get("NO_COLOR")


def _source_line(line: str, colour: str) -> str:
    """`   12 | issuer = …`, or the caret below."""
    number, bar, text = line.partition(" |")
    is_caret = not number.strip()
    return click.style(number + bar, fg="blue", bold=True) + (
        click.style(text, fg=colour, bold=True) if is_caret else text
    )


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() or each == "\t" else _UNPRINTABLE for each in line)
