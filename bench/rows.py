"""The figures of a benchmark run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Sample:
    """One run of one peer."""

    figures: dict[str, float]
    errors: dict[str, int] = field(default_factory=dict)  # kind -> number; without zeros


class MeasureError(Exception):
    """The measuring tool failed."""


@dataclass
class Row:
    """All runs of one peer in one scenario."""

    peer: str
    samples: list[Sample] = field(default_factory=list)
    fault: str | None = None  # the reason why there are no valid figures

    @property
    def good(self) -> bool:
        return self.fault is None and bool(self.samples) and not self.errors

    @property
    def errors(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for sample in self.samples:
            total.update(sample.errors)
        return dict(total)

    def values(self, figure: str) -> list[float]:
        return [sample.figures[figure] for sample in self.samples if figure in sample.figures]

    def median(self, figure: str) -> float | None:
        values = self.values(figure)
        return median(values) if values else None


def ratio(row: Row, base: Row, figure: str) -> float | None:
    """Median of the ratios within each round: a noisy machine slows both peers of a round alike."""
    pairs = zip(row.values(figure), base.values(figure), strict=False)
    ratios = [mine / theirs for mine, theirs in pairs if theirs > 0]
    return median(ratios) if ratios else None
