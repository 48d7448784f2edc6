"""Format rows as Markdown: medians, spreads and ratios."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from rows import Row, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenarios import Column, Scenario

BASELINES = ("nginx", "envoy", "go", "aiohttp")
CLOSEST = BASELINES[:2]  # for the ratios of further columns


def markdown(scenario: Scenario, rows: Sequence[Row]) -> str:
    first = scenario.columns[0]
    head, lines = ["proxy"], [[row.peer] for row in rows]
    for column in scenario.columns:
        bases = _bases(rows, BASELINES if column is first else CLOSEST if column.ratio else ())
        head += [_heading(column), *(f"vs {base.peer}" for base in bases)]
        for row, cells in zip(rows, lines, strict=True):
            cells += [_cell(row, column), *(_ratio(ratio(row, base, column.figure)) for base in bases)]
    rule = ["---"] + ["--:"] * (len(head) - 1) + ["---"]
    ended = [[*cells, _errors(row)] for row, cells in zip(rows, lines, strict=True)]
    lines = [[*head, "errors"], rule, *ended]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _bases(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    return [row for name in names for row in rows if row.peer == name]


def _heading(column: Column) -> str:
    return column.heading + (" (min-max)" if column.spread else "")


def _cell(row: Row, column: Column) -> str:
    values = row.values(column.figure)
    if not values:
        return "-"
    middle, least, greatest = (_number(v, column.digits) for v in (median(values), min(values), max(values)))
    between = " to " if least.startswith("-") else "-"
    return f"{middle} ({least}{between}{greatest})" if column.spread else middle


def _errors(row: Row) -> str:
    if row.fault:
        return row.fault.replace("|", "/")
    return ", ".join(f"{count} {kind}" for kind, count in row.errors.items()) or "0"


def _ratio(value: float | None) -> str:
    return "-" if value is None else _number(value, 2 if value < 100 else 0)


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits):,.{max(digits, 0)}f}".replace(",", " ")
