"""How a scenario loads a proxy that runs, and the figures that come of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import idle
import load
import marked
import proc
from ground import HERE
from rows import MeasureError, Row, Sample

if TYPE_CHECKING:
    from scenarios import Scenario
    from start import Started

SETTLE = 1.0  # seconds between a change and the reading of memory
RATE = 1000  # requests per second, open loop
# Seconds to open idle callers; enough for all of them on a quiet machine, except for slow peers.
OPENING = 5.0
CROWD_PAUSE, CROWD_STEADY = (
    1,
    3,
)  # seconds after the first one that are not counted; that are counted as steady


def loaded(scenario: Scenario, run: Started, seconds: int) -> Sample:
    return load.run(
        run.base + scenario.path,
        run.pid,
        seconds,
        connections=scenario.connections,
        size=scenario.size,
        heads=scenario.heads,
    )


def at_fixed_rate(scenario: Scenario, run: Started, seconds: int) -> Sample:
    command = [sys.executable, str(HERE / "openloop.py"), run.base + scenario.path, str(RATE), str(seconds)]
    with_token = [*command, run.token] if run.token else command
    ran = subprocess.run(with_token, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise MeasureError(f"the generator failed: {ran.stderr.strip().splitlines()[-1:]}")
    figures = json.loads(ran.stdout)
    return Sample(errors=figures.pop("errors"), figures=figures)


def added(rows: Sequence[Row]) -> None:
    """Compute the time that each row adds to `direct` (the first row) in the same round."""
    for row in rows[1:]:
        for mine, direct in zip(row.samples, rows[0].samples, strict=False):
            for part in ("p50_ms", "p99_ms"):
                mine.figures[f"added_{part}"] = mine.figures[part] - direct.figures[part]


def remembered(scenario: Scenario, run: Started, seconds: int) -> Sample:
    time.sleep(SETTLE)
    rest = proc.resident_mib(run.pid)
    under_load = loaded(scenario, run, seconds)
    time.sleep(SETTLE)
    after = proc.resident_mib(run.pid)
    with idle.callers(run.base + scenario.path, idle.possible(), OPENING) as opened:
        time.sleep(SETTLE)
        grown = proc.resident_mib(run.pid)
        count = idle.alive(opened)
    figures = {
        "ready_seconds": run.ready_seconds,
        "rest_mib": rest,
        "loaded_mib": after,
        "idle_callers": count,
        "kib_per_caller": (grown - after) * 1024 / max(count, 1),
    }
    closed = len(opened) - count
    return Sample(figures, under_load.errors | ({"closed": closed} if closed else {}))


def crowded(scenario: Scenario, run: Started, seconds: int) -> Sample:
    """The first second of many callers and, after a pause, the steady state, which `seconds` lengthens."""
    steady = CROWD_STEADY + seconds - 1
    parts = [str(part) for part in (1, CROWD_PAUSE, steady)]
    path = urlsplit(run.base + scenario.path).path
    command = [str(_compiled_crowd(run)), str(run.port), str(scenario.connections), path, *parts]
    report, marks = marked.run(command, run)
    time.sleep(SETTLE)
    errors = {kind: count for kind, count in report.pop("errors").items() if count}
    first_cpu = marks[1].cpu_seconds - marks[0].cpu_seconds
    steady_cpu = marks[3].cpu_seconds - marks[2].cpu_seconds
    figures = report | {
        "first_per_cpu_second": report["first_requests"] / max(first_cpu, 0.01),
        "per_cpu_second": report["steady_requests"] / max(steady_cpu, 0.01),
        "per_second": report["steady_requests"] / steady,
        "upstream_connections": marks[3].upstream_connections,
        "resident_mib": max(marks[3].resident_mib, proc.resident_mib(run.pid)),
    }
    return Sample(figures, errors)


def _compiled_crowd(run: Started) -> Path:
    program = run.folder / "crowd"
    if not program.exists():
        command = ["cc", "-O2", "-o", str(program), str(HERE / "crowd.c")]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise MeasureError(f"crowd.c not compiled: {ran.stderr.strip().splitlines()[-1:]}")
    return program


def listened(scenario: Scenario, run: Started, seconds: int) -> Sample:
    figures, errors, cpu = _pushed("events.py", scenario, run, seconds)
    events = figures["events"]
    if cpu and events:
        figures |= {"per_cpu_second": events / cpu, "ms_per_thousand": cpu / events * 1e6}
    return Sample(figures, errors)


def echoed(scenario: Scenario, run: Started, seconds: int) -> Sample:
    figures, errors, cpu = _pushed("trips.py", scenario, run, seconds)
    per_cpu_second = figures["trips"] / cpu if cpu else 0.0
    return Sample(
        figures | {"per_cpu_second": per_cpu_second, "per_second": figures["trips"] / seconds}, errors
    )


def _pushed(
    generator: str, scenario: Scenario, run: Started, seconds: int
) -> tuple[dict[str, Any], dict[str, int], float]:
    """Figures, errors, and the CPU seconds of the proxy between the generator's two marks."""
    path = urlsplit(run.base + scenario.path).path
    numbers = str(scenario.connections), str(seconds)
    token = [run.token] if run.token else []
    command = [sys.executable, str(HERE / generator), str(run.port), path, *numbers, *token]
    figures, (begin, end) = marked.run(command, run)
    errors = figures.pop("errors")
    return figures | {"resident_mib": end.resident_mib}, errors, end.cpu_seconds - begin.cpu_seconds
