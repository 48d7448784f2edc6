"""Samples to medians, spreads and ratios, and those to Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from load import Sample

BASELINES = ("nginx", "aiohttp")
UPSTREAM_NAMES = {"https": "TLS", "http": "plain"}


@dataclass
class Row:
    peer: str
    scheme: str
    ready_seconds: float | None = None
    rest_mib: float | None = None
    loaded_mib: float | None = None
    samples: list[Sample] = field(default_factory=list)
    fault: str | None = None  # why there are no figures, or why they do not count

    @property
    def good(self) -> bool:
        return self.fault is None and bool(self.samples) and not any(s.errors for s in self.samples)


def ratio(row: Row, base: Row) -> float | None:
    """Median of the ratios within each round: a noisy machine slows both peers of a round alike."""
    pairs = zip(row.samples, base.samples, strict=False)
    ratios = [mine.per_cpu_second / theirs.per_cpu_second for mine, theirs in pairs if theirs.per_cpu_second]
    return median(ratios) if ratios else None


def markdown(rows: Sequence[Row]) -> str:
    bases = [name for name in BASELINES if any(row.peer == name for row in rows)]
    head = [
        "proxy",
        "upstream",
        "requests per CPU-second (min-max)",
        *(f"vs {name}" for name in bases),
        "requests per second (min-max)",
        "p50 ms",
        "p99 ms",
        "resident MiB at rest, after load",
        "ready s",
        "errors",
    ]
    lines = [head, ["---"] * 2 + ["--:"] * (len(head) - 3) + ["---"]]
    lines += [_cells(row, [_find(rows, name, row.scheme) for name in bases]) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _find(rows: Sequence[Row], peer: str, scheme: str) -> Row | None:
    return next((row for row in rows if row.peer == peer and row.scheme == scheme), None)


def _cells(row: Row, bases: Sequence[Row | None]) -> list[str]:
    samples = row.samples
    return [
        row.peer,
        UPSTREAM_NAMES[row.scheme],
        _spread([s.per_cpu_second for s in samples]),
        *(_number(ratio(row, base) if base else None, 2) for base in bases),
        _spread([s.per_second for s in samples]),
        _number(median(s.p50_ms for s in samples) if samples else None, 2),
        _number(median(s.p99_ms for s in samples) if samples else None, 2),
        f"{_number(row.rest_mib, 0)}, {_number(row.loaded_mib, 0)}",
        _number(row.ready_seconds, 2),
        _errors(row),
    ]


def _errors(row: Row) -> str:
    if row.fault:
        return row.fault.replace("|", "/")
    total: dict[str, int] = {}
    for sample in row.samples:
        for kind, count in sample.errors.items():
            total[kind] = total.get(kind, 0) + count
    return ", ".join(f"{count} {kind}" for kind, count in total.items()) or "0"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{_thousands(median(values))} ({_thousands(min(values))}-{_thousands(max(values))})"


def _thousands(value: float) -> str:
    """To the nearest ten: more digits than that are noise."""
    return f"{round(value, -1):,.0f}".replace(",", " ")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
