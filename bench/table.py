"""Format rows as Markdown: medians, spreads and ratios."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from rows import Row, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scenarios import Column, Scenario

BASELINES = ("nginx", "envoy", "go", "aiohttp")


def markdown(scenario: Scenario, rows: Sequence[Row]) -> str:
    bases = [row for name in BASELINES for row in rows if row.peer == name]
    first, *others = scenario.columns
    head = [
        "proxy",
        _heading(first),
        *(f"vs {base.peer}" for base in bases),
        *(_heading(column) for column in others),
        "errors",
    ]
    lines = [head, ["---"] + ["--:"] * (len(head) - 2) + ["---"]]
    for row in rows:
        ratios = [ratio(row, base, scenario.figure) for base in bases]
        cells = [_cell(row, first), *(_ratio(each) for each in ratios)]
        lines.append([row.peer, *cells, *(_cell(row, column) for column in others), _errors(row)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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
