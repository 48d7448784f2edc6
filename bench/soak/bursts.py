"""An hour of bursts (a part of `make soak`): do memory, files and threads of the proxy stay as they are?

Bursts of 1 000 to 4 000 callers come at random, with pauses between them, to a real proxy process before a
TLS upstream. Each caller sends some requests with heads as apps send them; some have a body, some callers
ask for a WebSocket, and some vanish while they wait. Each burst's responses are checked: every caller must
get its own, and the upstream must see no request twice. When a burst is over, the process is read: its
memory, its files without connections to the upstream, and its threads.

The verdict is on the last two thirds of the bursts; the first third is for memory that is allocated once.
The exit status is 1 if anything grew, or if any response was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import place
import proc
import trustme

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.serve import running
from tests.fakes.crowd import Plan, raise_file_limit

LEAST, MOST = 1000, 4000  # callers of a burst
PAUSE = (1.0, 8.0)  # seconds between two bursts; idle connections beyond limits.pool are closed after 10
REQUESTS = 4  # of each caller
DELAY = 0.02  # seconds until a response, so that there is something to wait for
KINDS: dict[str, Any] = {
    "post": 0.2,
    "upgrade": 0.03,
    "leave": 0.1,
    "within": 1.0,
}  # shares; seconds until those have left
LIMIT = 300.0  # seconds for a burst; one that takes longer hangs
SETTLED = 30.0  # seconds after a burst, at most, until its callers are done with
# Growth that counts as none. Memory: a share of its median, as bursts differ in size, and an allocator keeps
# what the largest so far needed. It finds a leak of a kilobyte for each caller that has vanished in ten
# minutes, and one of 200 bytes in an hour.
MEMORY = 0.05
FILES = 2  # one is opened now and then, for the store and for a token
THREADS = 1  # one looks up names now and then
FEWEST = 6  # bursts that can be judged
ROUTE = 'websocket = true\ntls = { ca = "ca.pem" }\n[limits]\nhalf_closed = 0.5\n'
GOOD = frozenset({"200", "101"})


@dataclass(frozen=True)
class Reading:
    """What the process used after a burst."""

    memory: float  # MiB
    files: int  # without idle connections to the upstream
    threads: int


def main() -> int:
    options = _options()
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="bursts-") as folder:
        return asyncio.run(_soak(Path(folder), options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Bursts of callers, and what the proxy keeps of them.")
    parser.add_argument("--seconds", type=float, default=3600, help="length (default 3600)")
    parser.add_argument("--callers", type=int, nargs=2, default=(LEAST, MOST), help="of a burst: least, most")
    parser.add_argument("--pause", type=float, nargs=2, default=PAUSE, help="seconds: shortest, longest")
    parser.add_argument("--growth", type=float, default=MEMORY, help=f"of memory, share (default {MEMORY})")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not 0 < options.callers[0] <= options.callers[1]:
        parser.error("--callers are two numbers above 0, the smaller one first")
    return options


async def _soak(folder: Path, options: argparse.Namespace) -> int:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    server = AuthorizationServer(clients=[place.MACHINE], access_token_lifetime=600, limit=1000)
    async with running(server.application()) as issuer:
        with _program("counting_upstream", folder / "both.pem") as there:
            upstream = f"https://localhost:{_read(there)['port']}"
            async with place.proxy(folder, issuer, upstream, route=ROUTE) as ours:
                readings, wrong = await asyncio.to_thread(_bursts, ours, there, options)
            said = (folder / "proxy" / "output").read_text()
    if said:
        print(f"the proxy's log:\n{said}")
    return _judge(readings, wrong, options.growth)


def _bursts(
    ours: place.Running, there: subprocess.Popen[str], options: argparse.Namespace
) -> tuple[list[Reading], Counter[str]]:
    chance, end = random.Random(options.seed), time.monotonic() + options.seconds
    readings: list[Reading] = []
    wrong: Counter[str] = Counter()
    print("| burst | callers | seconds | vanished | MiB | files | threads |\n" + "| ---: " * 7 + "|")
    while time.monotonic() < end or len(readings) < FEWEST:
        number, callers = len(readings), chance.randint(*options.callers)
        _tell(there, {"delay": DELAY, "forget": True})
        plan = Plan(
            ours.port, callers, path="/soak", requests=REQUESTS, prefix=f"b{number}-", seed=number, **KINDS
        )
        seen = _burst(plan)
        wrong += _faults(seen, _tell(there, {}))
        readings.append(_settled(ours))
        gone, last = sum(seen["gone"].values()), readings[-1]
        print(
            f"| {number + 1} | {callers} | {seen['seconds']:.1f} | {gone} "
            f"| {last.memory:.1f} | {last.files} | {last.threads} |",
            flush=True,
        )
        time.sleep(chance.uniform(*options.pause))
    return readings, wrong


def _burst(plan: Plan) -> dict[str, Any]:
    with _program("crowd") as crowd:
        assert crowd.stdin is not None
        crowd.stdin.write(json.dumps(asdict(plan)) + "\n")
        crowd.stdin.flush()
        watch = threading.Timer(LIMIT, crowd.kill)
        watch.start()
        try:
            while (said := _read(crowd))["event"] != "done":
                pass
        finally:
            watch.cancel()
        return said


def _faults(seen: dict[str, Any], counted: dict[str, Any]) -> Counter[str]:
    found: Counter[str] = Counter(seen["faults"])
    found.update({f"status {status}": n for status, n in seen["statuses"].items() if status not in GOOD})
    found.update(
        {"requests sent twice": counted["repeated"], "requests without a token": counted["untokened"]}
    )
    return +found


def _settled(ours: place.Running) -> Reading:
    """When no request is in flight any more, and the connections of callers are closed."""
    deadline, last = time.monotonic() + SETTLED, _reading(ours)
    while time.monotonic() < deadline:
        time.sleep(0.5)
        before, last = last, _reading(ours)
        if before.files == last.files and not _metric(ours, "requests_in_flight"):
            break
    return last


def _reading(ours: place.Running) -> Reading:
    idle = int(_metric(ours, "upstream_connections"))
    home = Path(f"/proc/{ours.pid}")
    files = sum(1 for _ in (home / "fd").iterdir()) - idle
    threads = sum(1 for _ in (home / "task").iterdir())
    return Reading(proc.resident_mib(ours.pid), files, threads)


def _metric(ours: place.Running, name: str) -> float:
    """The sum of the samples of a metric."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ours.admin}/metrics", timeout=60) as got:
        lines = got.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"token_proxy_{name}{{"))


def growth(values: Sequence[float]) -> float:
    """Within the last two thirds of `values`, by the median of all slopes (Theil and Sen).

    A single large burst, or a reading at a bad moment, does not move it; a leak moves all slopes.
    """
    judged = values[len(values) // 3 :]
    slopes = [
        (later - earlier) / (n - m)
        for m, earlier in enumerate(judged)
        for n, later in enumerate(judged[m + 1 :], m + 1)
    ]
    return statistics.median(slopes) * (len(judged) - 1)


def _judge(readings: Sequence[Reading], wrong: Counter[str], share: float) -> int:
    if len(readings) < FEWEST:
        print(f"FAULT: only {len(readings)} bursts, which can't be judged: expected {FEWEST} or more")
        return 1
    memory = [reading.memory for reading in readings]
    grown = {
        "memory in MiB": (growth(memory), share * statistics.median(memory)),
        "files": (growth([reading.files for reading in readings]), FILES),
        "threads": (growth([reading.threads for reading in readings]), THREADS),
    }
    for name, (found, most) in grown.items():
        print(f"growth of {name} over the last two thirds: {found:+.2f}, of at most {most:.2f}")
    print(f"faults: {dict(wrong) or 'none'}")
    faults = [f"{name} grew" for name, (found, most) in grown.items() if found > most]
    for fault in faults + (["responses were wrong"] if wrong else []):
        print(f"FAULT: {fault}")
    print("not flat" if faults else f"flat over {len(readings)} bursts")
    return 1 if faults or wrong else 0


@contextlib.contextmanager
def _program(module: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A program of tests/fakes, which ends with its stdin."""
    command = [sys.executable, "-m", f"tests.fakes.{module}", *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=proc.REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _read(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise proc.StartError(f"{process.args!r} ended")
    read: dict[str, Any] = json.loads(line)
    return read


def _tell(process: subprocess.Popen[str], changes: dict[str, object]) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(changes) + "\n")
    process.stdin.flush()
    return _read(process)


if __name__ == "__main__":
    sys.exit(main())
