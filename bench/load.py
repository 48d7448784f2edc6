"""Load at the highest rate with wrk (one thread, keep-alive connections); measures the CPU time used."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import proc
from rows import MeasureError, Sample

PATIENCE = 30  # seconds for a response; enough for 100 MB through a slow proxy
ERROR_KINDS = ("bad_status", "connect", "read", "write", "timeout")
REPORT = Path(__file__).with_name("report.lua")
MB = 1e6


def run(url: str, pid: int, seconds: int, *, connections: int, size: int) -> Sample:
    """Load `url` and measure the CPU time that `pid` and its descendants use meanwhile."""
    before = proc.cpu_seconds(pid)
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE}s", "-s", str(REPORT)]
    wrk = subprocess.run(["wrk", *options, url], capture_output=True, text=True, check=False)
    used = proc.cpu_seconds(pid) - before
    reports = [line for line in wrk.stdout.splitlines() if line.startswith("REPORT ")]
    if not reports:
        raise MeasureError(f"wrk ended with {wrk.returncode}: {(wrk.stderr or wrk.stdout).strip()}")
    report = json.loads(reports[0].removeprefix("REPORT "))
    if not report["bytes"]:
        raise MeasureError("nothing was answered")
    return Sample(_figures(report, used), _errors(report, size))


def _figures(report: dict[str, Any], used: float) -> dict[str, float]:
    requests, megabytes, seconds = report["requests"], report["bytes"] / MB, report["seconds"]
    return {
        "requests": requests,
        "cpu_seconds": used,
        "per_cpu_second": requests / used if used else 0.0,
        "per_second": requests / seconds,
        "mb_per_cpu_second": megabytes / used if used else 0.0,
        "mb_per_second": megabytes / seconds,
        "p50_ms": report["p50_ms"],
        "p99_ms": report["p99_ms"],
    }


def _errors(report: dict[str, Any], size: int) -> dict[str, int]:
    errors = {kind: report[kind] for kind in ERROR_KINDS if report[kind]}
    missing = report["requests"] * size - report["bytes"]
    return errors | ({"short": -(-missing // size)} if missing > 0 else {})
