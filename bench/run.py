"""Compare the proxies (`python bench/run.py --help`): Markdown tables on stdout, progress on stderr.

The figure to compare is the work per CPU-second of a proxy's own processes: it is stable even if the load
generator is the bottleneck. Compare ratios within one run, not absolute figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import catalog
import idle
import picture
import table
from catalog import PEERS, Peer
from compare import Effort, compared, say, unfit
from ground import prepared
from rows import Row
from scenarios import SCENARIOS

TOOLS = {"wrk": "wrk", "taskset": "util-linux", "nginx": "nginx"}  # command -> package; nginx is the upstream
PICTURED = "real"

Results = dict[str, list[Row]]


def main() -> int:
    options = _options()
    peers = _present(options.peers)
    missing = _missing(peers)
    if missing:
        say(f"bench: {missing}")
        return 2
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    idle.raise_file_limit()
    began = time.monotonic()
    try:
        results, faults = _run(options, peers)
    except KeyboardInterrupt:
        return 130
    versions = {peer.name: catalog.version(peer) for peer in peers}
    print(_foot(options, versions, faults, time.monotonic() - began))
    if options.json:
        options.json.write_text(json.dumps(_raw(options, versions, results), indent=2) + "\n")
    if options.svg and PICTURED in results:
        title = "Requests per second of one CPU core: every request and response differs, upstream over TLS"
        options.svg.write_text(picture.svg(results[PICTURED], SCENARIOS[PICTURED].figure, title))
    return 0 if not faults and all(row.good for rows in results.values() for row in rows) else 1


def _run(options: argparse.Namespace, peers: Sequence[Peer]) -> tuple[Results, dict[str, str]]:
    """Run all scenarios, and print each table as soon as it is complete."""
    results: Results = {}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        prepared(Path(folder), *_cpus()) as ground,
    ):
        say("does every peer do the work of the others, and refuse a certificate that it must not believe?")
        faults = {peer.name: fault for peer in peers if (fault := unfit(peer, ground))}
        fit = [peer for peer in peers if peer.name not in faults]
        for name in options.scenarios:
            scenario = SCENARIOS[name]
            results[name] = compared(scenario, fit, Effort(options.rounds, options.seconds), ground)
            print(f"**{name}**: {scenario.story}\n\n{table.markdown(scenario, results[name])}\n", flush=True)
    return results, faults


def _interrupt(*_: object) -> None:
    """Unwind once, which stops all started processes; a second Ctrl-C must not interrupt that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The proxies side by side, as Markdown tables.")
    parser.add_argument("--quick", action="store_true", help="1 round of 1 s, to check that it works")
    parser.add_argument("--seconds", type=int, help="length of one run (default 1)")
    parser.add_argument("--rounds", type=int, help="runs of each proxy, interleaved (default 5)")
    parser.add_argument("--only", default=",".join(PEERS), help=f"some of {','.join(PEERS)}")
    parser.add_argument(
        "--tree",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="also run another compiled tree of ours",
    )
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help=f"some of {','.join(SCENARIOS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help=f"draw the scenario {PICTURED} there")
    options = parser.parse_args()
    options.peers = [PEERS[name] for name in _names(parser, "--only", options.only, PEERS)]
    options.peers += [_tree(parser, given) for given in options.tree]
    options.scenarios = _names(parser, "--scenarios", options.scenarios, SCENARIOS)
    options.seconds = options.seconds or 1
    options.rounds = options.rounds or (1 if options.quick else 5)
    if options.seconds < 1 or options.rounds < 1:
        parser.error("--seconds and --rounds are 1 or more")
    return options


def _names(
    parser: argparse.ArgumentParser, option: str, given: str, known: Mapping[str, object]
) -> list[str]:
    names = given.replace(",", " ").split()
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        parser.error(f"{option}: {', '.join(unknown) or 'nothing'} is none of {', '.join(known)}")
    return list(dict.fromkeys(names))


def _tree(parser: argparse.ArgumentParser, given: str) -> Peer:
    name, _, folder = given.partition("=")
    if not name or name in PEERS or not (Path(folder) / "proxy").is_dir():
        parser.error(f"--tree {given}: expected NAME=FOLDER, a new name and a folder made by `make wheel`")
    return catalog.built(name, Path(folder).resolve())


def _present(peers: Sequence[Peer]) -> list[Peer]:
    """The peers that are installed; the others are reported on stderr."""
    present = []
    for peer in peers:
        if remedy := catalog.lacking(peer):
            say(f"bench: without {peer.name}, which this machine does not have: {remedy}")
        else:
            present.append(peer)
    return present


def _missing(peers: Sequence[Peer]) -> str | None:
    """A line with the remedy if the benchmark can't run; None if it can."""
    if not sys.platform.startswith("linux"):
        return "this needs Linux: it reads /proc"
    packages = [package for command, package in TOOLS.items() if not shutil.which(command)]
    if packages:
        return f"please install: {' '.join(packages)}"
    return None if peers else "none of these peers is here"


def _cpus() -> tuple[int | None, int | None]:
    """A CPU for load generator and upstream, and one for the proxy under test; None on a single CPU."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return None, None
    os.sched_setaffinity(0, {usable[0]})  # for this process, and the load generators that it starts
    return usable[0], usable[-1]


def _foot(options: argparse.Namespace, versions: dict[str, str], faults: dict[str, str], took: float) -> str:
    effort = (
        f"{options.rounds} interleaved rounds of {options.seconds} s (memory: 2 at most); medians; "
        f"ratios of the first column's figures within each round; {took:.0f} s in all."
    )
    lines = [
        effort,
        "Peers: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        *(f"Left out: {name}: {fault}." for name, fault in faults.items()),
    ]
    return "\n".join(lines)


def _raw(options: argparse.Namespace, versions: dict[str, str], results: Results) -> dict[str, object]:
    return {
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": sys.version},
        "settings": {"rounds": options.rounds, "seconds": options.seconds},
        "peers": versions,
        "scenarios": {name: [asdict(row) for row in rows] for name, rows in results.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
