"""The results of a run, as kept in a file: what was measured, of which peers, on which machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rows import Row, Sample

Tables = dict[str, list[Row]]  # by name of scenario


@dataclass(frozen=True)
class Results:
    machine: str
    settings: dict[str, int]  # rounds; seconds
    versions: dict[str, str]  # of the peers
    left_out: dict[str, str]  # peer -> reason
    took: float  # seconds
    tables: Tables

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=2) + "\n")


def read(file: Path) -> Results:
    raw = json.loads(file.read_text())
    tables = {name: [_row(each) for each in rows] for name, rows in raw.pop("tables").items()}
    return Results(**raw, tables=tables)


def _row(raw: dict[str, object]) -> Row:
    samples = raw.pop("samples")
    assert isinstance(samples, list)
    return Row(**raw, samples=[Sample(**sample) for sample in samples])  # type: ignore[arg-type]


def together(parts: Sequence[Results]) -> Results:
    """Several runs on one machine as one; of a scenario that was run twice, the later one."""
    first = parts[0]
    odd = next(
        (part for part in parts if (part.machine, part.settings) != (first.machine, first.settings)), None
    )
    if odd:
        raise ValueError(
            f"expected runs of one machine with the same settings, not {odd.machine}, {odd.settings}"
        )
    merged = Results(first.machine, first.settings, {}, {}, sum(part.took for part in parts), {})
    for part in parts:
        merged.versions.update(part.versions)
        merged.left_out.update(part.left_out)
        merged.tables.update(part.tables)
    return merged


def machine() -> str:
    """This machine in a few words; compare figures of one machine only."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return f"{os.cpu_count()} CPUs ({model}), Linux {platform.release()}, Python {platform.python_version()}"
