"""The scenarios. A new one is an entry in SCENARIOS, and a measuring function if none here fits."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import idle
import load
import proc
from ground import HERE, SIZES
from rows import MeasureError, Row, Sample

if TYPE_CHECKING:
    from start import Started

SETTLE = 1.0  # seconds between a change and the reading of memory
RATE = 1000  # requests per second, open loop
OPENING = (
    5.0  # seconds to open idle callers; enough for all of them on a quiet machine, except for slow peers
)


@dataclass(frozen=True)
class Column:
    heading: str
    figure: str
    digits: int = 2  # after the point; -1: to the nearest ten
    spread: bool = False  # also show minimum and maximum


@dataclass(frozen=True)
class Scenario:
    name: str
    story: str  # the text above its table
    figure: str  # the figure of which ratios are computed
    columns: tuple[Column, ...]
    measure: Callable[[Scenario, Started, int], Sample]  # the int: seconds
    upstream: str = "https"
    path: str = "1k"
    connections: int = 32
    heads: tuple[str, ...] | None = None  # arguments of heads.lua; None: all requests are the same
    direct: bool = False  # also measure the upstream itself, and subtract it
    alone: bool = False  # a new process for each sample, and no other beside it
    most_rounds: int | None = None

    @property
    def size(self) -> int:
        return SIZES[self.path]


def loaded(scenario: Scenario, run: Started, seconds: int) -> Sample:
    url = run.base + scenario.path
    return load.run(
        url, run.pid, seconds, connections=scenario.connections, size=scenario.size, heads=scenario.heads
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
    under_load = load.run(
        run.base + scenario.path,
        run.pid,
        seconds,
        connections=scenario.connections,
        size=scenario.size,
    )
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


REQUESTS = (
    Column("requests per CPU-second", "per_cpu_second", -1, spread=True),
    Column("requests per second", "per_second", -1, spread=True),
    Column("p50 ms", "p50_ms"),
    Column("p99 ms", "p99_ms"),
)
MEGABYTES = (
    Column("MB per CPU-second", "mb_per_cpu_second", -1, spread=True),
    Column("MB per second", "mb_per_second", -1, spread=True),
)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "real",
            "Heads as they are in life: 9 fields in, 17 out, with a target, trace id, request id, ETag and "
            "rate limit of their own. 531 bytes of JSON, upstream over TLS, 32 connections.",
            "per_cpu_second",
            REQUESTS,
            loaded,
            path="real",
            heads=(),
        ),
        Scenario(
            "small",
            "The best case: every head is the same. 531 bytes of JSON, upstream over TLS, 32 connections.",
            "per_cpu_second",
            REQUESTS,
            loaded,
        ),
        Scenario(
            "plain",
            "Small responses (531 bytes), upstream over plain HTTP, 32 connections.",
            "per_cpu_second",
            REQUESTS,
            loaded,
            upstream="http",
        ),
        Scenario(
            "1mb",
            "Responses of 1 MB, upstream over TLS, 8 connections.",
            "per_cpu_second",
            (Column("requests per CPU-second", "per_cpu_second", -1, spread=True), *MEGABYTES),
            loaded,
            path="1m",
            connections=8,
        ),
        Scenario(
            "stream",
            "Downloads of 100 MB, upstream over TLS, two at a time.",
            "mb_per_cpu_second",
            MEGABYTES,
            loaded,
            path="100m",
            connections=2,
        ),
        Scenario(
            "latency",
            f"Small responses, upstream over TLS, {RATE} requests per second on a fixed schedule, measured "
            "from the scheduled time; added: the difference to the upstream itself over plain HTTP. A peer "
            "with fewer responses per second is overloaded, and its times only show the length of the run.",
            "added_p50_ms",
            (
                Column("added p50 ms", "added_p50_ms", 3, spread=True),
                Column("added p99 ms", "added_p99_ms", spread=True),
                Column("p50 ms", "p50_ms", 3, spread=True),
                Column("p99 ms", "p99_ms", spread=True),
                Column("responses per second", "answered_per_second", 0),
            ),
            at_fixed_rate,
            direct=True,
        ),
        Scenario(
            "memory",
            "Resident memory, upstream over TLS: at rest, after load, and added by an idle caller.",
            "kib_per_caller",
            (
                Column("KiB per idle connection", "kib_per_caller", 1, spread=True),
                Column("MiB at rest", "rest_mib", 0, spread=True),
                Column("MiB after load", "loaded_mib", 0, spread=True),
                Column("idle connections", "idle_callers", 0),
                Column("ready s", "ready_seconds"),
            ),
            remembered,
            alone=True,
            most_rounds=2,
        ),
    )
}
