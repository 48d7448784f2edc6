"""One load run: wrk, one thread, 32 keep-alive connections."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import proc

CONNECTIONS = 32
ERROR_KINDS = ("bad_status", "connect", "read", "write", "timeout")
REPORT = Path(__file__).with_name("report.lua")


class LoadError(Exception):
    """wrk could not do its work."""


@dataclass(frozen=True)
class Sample:
    requests: int
    cpu_seconds: float
    per_cpu_second: float
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]  # kind -> how many; only those that happened


def run(url: str, pid: int, seconds: int) -> Sample:
    """Load `url` and count the processor time that the family of `pid` uses meanwhile."""
    before = proc.cpu_seconds(pid)
    wrk = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(REPORT), url],
        capture_output=True,
        text=True,
        check=False,
    )
    used = proc.cpu_seconds(pid) - before
    reports = [line for line in wrk.stdout.splitlines() if line.startswith("REPORT ")]
    if not reports:
        raise LoadError(f"wrk ended with {wrk.returncode}: {(wrk.stderr or wrk.stdout).strip()}")
    sample = _sample(json.loads(reports[0].removeprefix("REPORT ")), used)
    if not sample.requests:
        raise LoadError(f"no request was answered: {sample.errors}")
    return sample


def _sample(report: dict[str, Any], used: float) -> Sample:
    requests = report["requests"]
    return Sample(
        requests=requests,
        cpu_seconds=used,
        per_cpu_second=requests / used if used else 0.0,
        per_second=requests / report["seconds"],
        p50_ms=report["p50_ms"],
        p99_ms=report["p99_ms"],
        errors={kind: report[kind] for kind in ERROR_KINDS if report[kind]},
    )
