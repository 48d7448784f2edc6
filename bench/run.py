"""The peers side by side (`python bench/run.py --help`): a Markdown table on stdout, progress on stderr.

Requests per CPU-second of a proxy's own processes is the figure to compare: it holds still when the load
generator, not the proxy, is the bottleneck. Ratios within one run count; absolutes do not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import load
import proc
import table
from catalog import PEERS, Peer, Started, started
from ground import ANSWER_BYTES, Ground, prepared

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLE = 1.0  # seconds between the last start and reading the memory at rest
WARM_UP = 1  # seconds of load that fill the pools and are not counted


def main() -> int:
    options = _options()
    missing = _missing(options.peers)
    if missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    rows: list[table.Row] = []
    load_cpu, proxy_cpu = _cpus()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as folder,
            prepared(Path(folder), load_cpu, proxy_cpu) as ground,
        ):
            for scheme in options.schemes:
                rows += compare(options, scheme, ground)
    except KeyboardInterrupt:
        return 130
    _publish(options, rows)
    return 0 if all(row.good for row in rows) else 1


def _interrupt(*_: object) -> None:
    """Unwind once: what we started is stopped on the way out, and a second Ctrl-C must not cut that short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The proxies side by side, as a Markdown table.")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s: does it work?")
    parser.add_argument("--seconds", type=int, help="length of one load run (default 4)")
    parser.add_argument("--rounds", type=int, help="runs of each proxy, interleaved (default 5)")
    parser.add_argument("--only", default=",".join(PEERS), help=f"some of {','.join(PEERS)}")
    parser.add_argument("--plain", action="store_true", help="measure a plain-HTTP upstream as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures there")
    options = parser.parse_args()
    names = [name for name in options.only.replace(",", " ").split() if name]
    unknown = [name for name in names if name not in PEERS]
    if unknown or not names:
        parser.error(f"--only: {', '.join(unknown) or 'nothing'} is none of {', '.join(PEERS)}")
    options.peers = [PEERS[name] for name in names]
    options.schemes = ["https", "http"] if options.plain else ["https"]
    options.seconds = options.seconds or (1 if options.quick else 4)
    options.rounds = options.rounds or (2 if options.quick else 5)
    if options.seconds < 1 or options.rounds < 1:
        parser.error("--seconds and --rounds are 1 or more")
    return options


def _missing(peers: Sequence[Peer]) -> str | None:
    """One line that says what to install, if something is missing."""
    if not sys.platform.startswith("linux"):
        return "this needs Linux: it reads /proc"
    needed = {"wrk": "wrk", "taskset": "util-linux", "nginx": "nginx"}  # nginx is the upstream, too
    needed |= {peer.needs: peer.needs for peer in peers if peer.needs}
    packages = [package for command, package in needed.items() if not shutil.which(command)]
    return f"please install: {' '.join(packages)}" if packages else None


def _cpus() -> tuple[int | None, int | None]:
    """One for load generator and upstream, one for the proxy under test; none on a single-CPU machine."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return None, None
    os.sched_setaffinity(0, {usable[0]})  # ourselves, and wrk, which we start
    return usable[0], usable[-1]


def compare(options: argparse.Namespace, scheme: str, ground: Ground) -> list[table.Row]:
    """All peers, started together and loaded in turn."""
    rows = [table.Row(peer.name, scheme) for peer in options.peers]
    with contextlib.ExitStack() as until_end:
        runs: dict[str, Started] = {}
        for peer, row in zip(options.peers, rows, strict=True):
            _say(f"{peer.name}: starting")
            try:
                runs[peer.name] = until_end.enter_context(started(peer, scheme, ground))
                row.ready_seconds = runs[peer.name].ready_seconds
            except proc.StartError as error:
                row.fault = str(error)
        time.sleep(SETTLE)
        able = [row for row in rows if row.peer in runs]
        for row in able:
            row.rest_mib = proc.resident_mib(runs[row.peer].pid)
        for row in able:
            row.fault = prove(runs[row.peer].url) or warm_up(runs[row.peer])
        for number in range(options.rounds):
            for row in able:
                if not row.fault:
                    measure(row, runs[row.peer], options.seconds, number)
        for row in able:
            row.loaded_mib = proc.resident_mib(runs[row.peer].pid)
    return rows


def prove(url: str) -> str | None:
    """One request must get the API's whole answer, which it gives to nobody without the token."""
    status, body = proc.get(url)
    if status == 200 and len(body) == ANSWER_BYTES:
        return None
    return f"GET gave {status} with {len(body)} bytes"


def warm_up(run: Started) -> str | None:
    try:
        load.run(run.url, run.pid, WARM_UP)
    except load.LoadError as error:
        return str(error)
    return None


def measure(row: table.Row, run: Started, seconds: int, number: int) -> None:
    try:
        sample = load.run(run.url, run.pid, seconds)
    except load.LoadError as error:
        row.fault = str(error)
        return
    row.samples.append(sample)
    _say(f"{row.peer}: round {number + 1}: {sample.per_cpu_second:,.0f} per CPU-second {sample.errors or ''}")


def _publish(options: argparse.Namespace, rows: Sequence[table.Row]) -> None:
    print(table.markdown(rows))
    print(
        f"\n{options.rounds} interleaved rounds of {options.seconds} s, {load.CONNECTIONS} keep-alive "
        f"connections, {ANSWER_BYTES}-byte answers; medians; ratios of requests per CPU-second."
    )
    if options.json:
        machine = {"cpus": os.cpu_count(), "system": platform.platform(), "python": sys.version}
        settings = {"rounds": options.rounds, "seconds": options.seconds, "connections": load.CONNECTIONS}
        report = {"machine": machine, "settings": settings, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
