"""The scenarios. A new one is an entry in SCENARIOS, and a function in measures.py if none there fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import measures
from ground import SIZES
from measures import CROWD_PAUSE, CROWD_STEADY, RATE
from rows import Sample

if TYPE_CHECKING:
    from start import Started


@dataclass(frozen=True)
class Column:
    heading: str
    figure: str
    digits: int = 2  # after the point; -1: to the nearest ten
    spread: bool = False  # also show minimum and maximum
    ratio: bool = False  # also show its ratios; always for the first column


@dataclass(frozen=True)
class Scenario:
    name: str
    story: str  # the text above its table
    columns: tuple[Column, ...]
    measure: Callable[[Scenario, Started, int], Sample]  # the int: seconds
    upstream: str = "https"
    path: str = "real"
    connections: int = 32
    heads: tuple[str, ...] | None = None  # arguments of heads.lua; None: all requests are the same
    needs: str | None = None  # what a peer must not lack
    logged: bool = False  # with a log line for each request
    direct: bool = False  # also measure the upstream itself, and subtract it
    alone: bool = False  # a new process for each sample, and no other beside it
    most_rounds: int | None = None

    @property
    def proof(self) -> str:
        """The path of a request that shows, by its complete response, that a peer works."""
        return "1k" if self.upstream == "push" else self.path

    @property
    def size(self) -> int:
        return SIZES[self.proof]

    @property
    def figure(self) -> str:
        """The figure to compare."""
        return self.columns[0].figure


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
CROWD = (
    Column("requests per CPU-second, steady", "per_cpu_second", -1, spread=True),
    Column("p50 ms", "steady_p50_ms", 0),
    Column("p99 ms", "steady_p99_ms", 0, spread=True, ratio=True),
    Column("responses in the first second", "first_requests", -1, spread=True, ratio=True),
    Column("its p99 ms", "first_p99_ms", 0, ratio=True),
    Column("MiB", "resident_mib", 0, spread=True),
    Column("upstream connections", "upstream_connections", 0),
)


def crowd(name: str, callers: int, words: str) -> Scenario:
    story = (
        f"{words} callers at once, heads and body as in `real`, each peer started anew for each sample. In "
        "its first second all callers connect at once; a caller without a response counts with the time that "
        f"it has waited. Then, after {CROWD_PAUSE} s, the steady state for {CROWD_STEADY} s, with the same "
        "callers. MiB: resident at its end."
    )
    return Scenario(
        name,
        story,
        CROWD,
        measures.crowded,
        connections=callers,
        needs="crowd",
        alone=True,
        most_rounds=3,
    )


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "real",
            "Heads as they are in life: 9 fields in, 17 out, with a target, trace id, request id, ETag and "
            "rate limit of their own. 531 bytes of JSON, upstream over TLS, 32 connections.",
            REQUESTS,
            measures.loaded,
            heads=(),
        ),
        Scenario(
            "post",
            "Heads as in `real`, with a request body of 4 KB of JSON.",
            REQUESTS,
            measures.loaded,
            heads=("body=4096",),
        ),
        Scenario(
            "fresh",
            "Heads as in `real`, with a new connection of the caller for each request; 32 at a time.",
            REQUESTS,
            measures.loaded,
            heads=("close",),
            needs="pool",
        ),
        crowd("many", 1000, "A thousand"),
        crowd("many4000", 4000, "Four thousand"),
        Scenario(
            "small",
            "The best case: every head is the same. 531 bytes of JSON, upstream over TLS, 32 connections.",
            REQUESTS,
            measures.loaded,
            path="1k",
        ),
        Scenario(
            "logged",
            "`real` with a log line for each request; the other scenarios have none.",
            REQUESTS,
            measures.loaded,
            heads=(),
            needs="log",
            logged=True,
        ),
        Scenario(
            "plain",
            "`real` with an upstream over plain HTTP.",
            REQUESTS,
            measures.loaded,
            upstream="http",
            heads=(),
            most_rounds=3,
        ),
        Scenario(
            "1mb",
            "Responses of 1 MB, upstream over TLS, 8 connections.",
            (Column("requests per CPU-second", "per_cpu_second", -1, spread=True), *MEGABYTES),
            measures.loaded,
            path="1m",
            connections=8,
            most_rounds=3,
        ),
        Scenario(
            "stream",
            "Downloads of 100 MB, upstream over TLS, two at a time.",
            MEGABYTES,
            measures.loaded,
            path="100m",
            connections=2,
            most_rounds=3,
        ),
        Scenario(
            "events",
            "A thousand event streams with ten events a second each, upstream over TLS; added: the "
            "difference to the upstream itself over plain HTTP. MiB: resident with all streams open.",
            (
                Column("events per CPU-second", "per_cpu_second", -1, spread=True),
                Column("CPU ms per 1000 events", "ms_per_thousand", 1, spread=True),
                Column("added p50 ms", "added_p50_ms", spread=True),
                Column("added p99 ms", "added_p99_ms", spread=True),
                Column("MiB", "resident_mib", 0),
            ),
            measures.listened,
            upstream="push",
            path="events",
            connections=1000,
            needs="crowd",
            direct=True,
            most_rounds=3,
        ),
        Scenario(
            "websocket",
            "Round trips of WebSocket frames of 32 bytes, upstream over TLS, 32 connections.",
            (Column("round trips per CPU-second", "per_cpu_second", -1, spread=True), *REQUESTS[1:]),
            measures.echoed,
            upstream="push",
            path="echo",
            needs="websocket",
            most_rounds=3,
        ),
        Scenario(
            "latency",
            f"Heads and body as in `real`, {RATE} requests per second on a fixed schedule, measured "
            "from the scheduled time; added: the difference to the upstream itself over plain HTTP. A peer "
            "with fewer responses per second is overloaded, and its times only show the length of the run.",
            (
                Column("added p50 ms", "added_p50_ms", 3, spread=True),
                Column("added p99 ms", "added_p99_ms", spread=True),
                Column("p50 ms", "p50_ms", 3, spread=True),
                Column("p99 ms", "p99_ms", spread=True),
                Column("responses per second", "answered_per_second", 0),
            ),
            measures.at_fixed_rate,
            direct=True,
        ),
        Scenario(
            "memory",
            "Resident memory, upstream over TLS: at rest, after load as in `real`, added by an idle caller.",
            (
                Column("KiB per idle connection", "kib_per_caller", 1, spread=True),
                Column("MiB at rest", "rest_mib", 0, spread=True),
                Column("MiB after load", "loaded_mib", 0, spread=True),
                Column("idle connections", "idle_callers", 0),
                Column("ready s", "ready_seconds"),
            ),
            measures.remembered,
            heads=(),
            alone=True,
            most_rounds=2,
        ),
    )
}
