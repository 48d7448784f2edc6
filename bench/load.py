"""Load at the highest rate with wrk (one thread, keep-alive connections); measures the CPU time used."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import proc
from rows import MeasureError, Sample

PATIENCE = 30  # seconds for a response; enough for 100 MB through a slow proxy
ERROR_KINDS = ("bad_status", "connect", "read", "write", "timeout")
REPORT = Path(__file__).with_name("report.lua")
HEADS = Path(__file__).with_name("heads.lua")
MB = 1e6


def run(
    url: str, pid: int, seconds: int, *, connections: int, size: int, heads: Sequence[str] | None = None
) -> Sample:
    """Load `url` and measure the CPU time that `pid` and its descendants use meanwhile.

    `heads` are the arguments of heads.lua: all requests differ; None: all requests are the same.
    """
    before = proc.cpu_seconds(pid)
    report = _wrk(url, seconds, connections, heads)
    used = proc.cpu_seconds(pid) - before
    if not report["bytes"]:
        raise MeasureError("nothing was answered")
    return Sample(_figures(report, used), _errors(report, size))


def _wrk(url: str, seconds: int, connections: int, heads: Sequence[str] | None) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:  # wrk takes one file only
        script.write((HEADS.read_text() if heads is not None else "") + REPORT.read_text())
        script.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE}s", "-s", script.name]
        command = ["wrk", *options, url, "--", *(heads or ())]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    reports = [line for line in ran.stdout.splitlines() if line.startswith("REPORT ")]
    if not reports:
        raise MeasureError(f"wrk ended with {ran.returncode}: {(ran.stderr or ran.stdout).strip()}")
    report: dict[str, Any] = json.loads(reports[0].removeprefix("REPORT "))
    return report


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
