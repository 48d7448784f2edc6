"""Load by a generator that prints MARK where a measured part begins or ends, and then one line of JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import proc
from rows import MeasureError

if TYPE_CHECKING:
    from start import Started


@dataclass(frozen=True)
class Mark:
    """The resources that a proxy used up to here, and those that it holds."""

    cpu_seconds: float
    resident_mib: float
    upstream_connections: int


def run(command: Sequence[str], of: Started) -> tuple[dict[str, Any], list[Mark]]:
    """Run the generator; returns its report, and what the proxy used at each mark."""
    marks: list[Mark] = []
    report: dict[str, Any] | None = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as generator:
        assert generator.stdout is not None
        assert generator.stderr is not None
        try:
            for line in generator.stdout:
                if line == "MARK\n":
                    marks.append(_mark(of))
                elif line.startswith("{"):
                    report = json.loads(line)
        finally:
            generator.terminate()  # it has ended already, unless we were interrupted
        said = generator.stderr.read().strip().splitlines()[-1:]
    if report is None or len(marks) < 2:
        raise MeasureError(f"the generator failed: {' '.join(said) or generator.returncode}")
    return report, marks


def _mark(of: Started) -> Mark:
    cpu = proc.cpu_seconds(of.pid) if of.pid else 0.0  # first, as the load goes on meanwhile
    if not of.pid:
        return Mark(cpu, 0.0, 0)
    return Mark(cpu, proc.resident_mib(of.pid), proc.connections_to(of.upstream_port))
