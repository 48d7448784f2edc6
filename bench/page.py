"""docs/speed.md: all tables of a run, with what one needs to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import table
from rows import Row, ratio
from scenarios import SCENARIOS

if TYPE_CHECKING:
    from results import Results

PAGE = """\
# Speed

<!-- Written by `make speed`; do not edit. -->

![Requests per second of one CPU core](speed.svg)

The work that a proxy does with one second of CPU time of its own processes, beside that of other proxies.
What counts is the ratios within this run: the figures themselves depend on the machine. How it is measured,
and what makes the work equal: [bench/README.md](../bench/README.md).

{summary}

- `token-proxy` is the compiled wheel, `uncompiled` the same source as Python. Higher is better, except for
  times and memory.
- `real` is what to expect of everyday traffic. `small` is the best case, in which every head is the same.
- No peer writes a log line for each request, except in `logged`. token-proxy writes one by default.
- Cells are medians of all rounds, with minimum and maximum in parentheses. Ratios are medians of the ratios
  within each round.

{tables}

## This run

{foot}
"""


def speed(results: Results) -> str:
    tables = "\n\n".join(
        f"## {name}\n\n{SCENARIOS[name].story}\n\n{table.markdown(SCENARIOS[name], results.tables[name])}"
        for name in SCENARIOS
        if name in results.tables
    )
    return PAGE.format(summary=_summary(results), tables=tables, foot=foot(results))


def foot(results: Results) -> str:
    rounds, seconds = results.settings["rounds"], results.settings["seconds"]
    fewer = ", ".join(
        f"{SCENARIOS[name].most_rounds} of {name}"
        for name in results.tables
        if (SCENARIOS[name].most_rounds or rounds) < rounds
    )
    lines = [
        f"{rounds} interleaved rounds of {seconds} s"
        + (f" (at most {fewer})" if fewer else "")
        + "; medians; "
        f"ratios within each round; {results.took / 60:.0f} min in all.",
        f"Machine: {results.machine}.",
        "Peers: " + ", ".join(f"{name} {version}" for name, version in results.versions.items()) + ".",
        *(f"Left out: {name}: {fault}." for name, fault in results.left_out.items()),
    ]
    return "\n".join(lines)


def _summary(results: Results) -> str:
    """Our ratios in each scenario, by its first column."""
    lines = ["| scenario | | vs nginx | vs Envoy | uncompiled vs nginx |", "| --- | --- | --: | --: | --: |"]
    for name, scenario in SCENARIOS.items():
        if name not in results.tables:
            continue
        rows = {row.peer: row for row in results.tables[name]}
        ours = rows.get("token-proxy"), rows.get("uncompiled")
        ratios = [
            _ratio(ours[0], rows.get("nginx"), scenario.figure),
            _ratio(ours[0], rows.get("envoy"), scenario.figure),
            _ratio(ours[1], rows.get("nginx"), scenario.figure),
        ]
        lines.append(f"| `{name}` | {scenario.columns[0].heading} | " + " | ".join(ratios) + " |")
    return "\n".join(lines)


def _ratio(mine: Row | None, base: Row | None, figure: str) -> str:
    found = ratio(mine, base, figure) if mine and base else None
    return "-" if found is None else f"{found:.2f}"
