"""A soak test of event streams (`make soak`): is any event lost, late, or in the wrong stream?

A thousand callers receive event streams through a real proxy process for a minute, from a TLS upstream that
sends each of them one event a second, while the access token changes every few seconds. It prints the time to
the first event, connecting included, compared with the upstream itself; the time from sending to arrival; the
longest gap of any stream; the number of lost, repeated, reordered, truncated or misdirected events (must be
0); and the memory and CPU seconds of the process. The exit status is 1 if there were any.

Callers, upstream and proxy share the machine: compare the figures with `direct` only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path

import idle
import place
import proc
import trustme
from streams import Heard, listen

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.serve import running

HERE = Path(__file__).parent
TOKEN_LIFE = 20  # seconds; several refreshes a minute
DIRECT_SECONDS = 5  # at most, for each stream without the proxy; enough for a comparison
SETTLE = 1.0  # seconds between the end of the last stream and the reading of memory


def main() -> int:
    options = _options()
    idle.raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return asyncio.run(_soak(Path(folder), options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Event streams through the proxy, each event checked.")
    parser.add_argument("--streams", type=int, default=1000, help="concurrent streams (default 1000)")
    parser.add_argument("--seconds", type=int, default=60, help="length of each stream (default 60)")
    parser.add_argument(
        "--rounds", type=int, default=1, help="number of repetitions, to detect growing memory"
    )
    options = parser.parse_args()
    if options.streams < 1 or options.seconds < 2 or options.rounds < 1:
        parser.error("--streams and --rounds are 1 or more, --seconds 2 or more")
    return options


async def _soak(folder: Path, options: argparse.Namespace) -> int:
    trusted = _certificates(folder)
    server = AuthorizationServer(clients=[place.MACHINE], access_token_lifetime=TOKEN_LIFE)
    async with running(server.application()) as issuer:
        with _upstream(folder) as upstream:
            seconds = min(DIRECT_SECONDS, options.seconds)
            _say(f"{options.streams} streams, direct, {seconds} s")
            direct = await listen("", upstream, options.streams, seconds, tls=trusted, token="any")
            async with place.proxy(
                folder, issuer, f"https://localhost:{upstream}", route='tls = { ca = "ca.pem" }'
            ) as ours:
                await listen("/soak", ours.port, 1, 2)  # warm-up: load everything that is loaded once
                cost = Cost(ours.pid)
                faults = direct.faults.total()
                for _ in range(options.rounds):
                    _say(f"{options.streams} streams, through the proxy, {options.seconds} s")
                    through = await cost.during(listen("/soak", ours.port, options.streams, options.seconds))
                    print(_report(direct, through, cost), flush=True)
                    faults += through.faults.total()
            said = (folder / "proxy" / "output").read_text()
    print(f"access tokens: {len(server.token_requests)}")
    if said:
        print(f"the proxy's log:\n{said}")
    return 1 if faults else 0


def _certificates(folder: Path) -> ssl.SSLContext:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    return ssl.create_default_context(cafile=str(folder / "ca.pem"))


@contextlib.contextmanager
def _upstream(folder: Path) -> Iterator[int]:
    """Return its port."""
    home = folder / "upstream"
    home.mkdir()
    command = [sys.executable, str(HERE / "upstream.py"), str(folder / "both.pem")]
    with proc.running(command, home, None) as process:
        deadline = time.monotonic() + proc.START_PATIENCE
        while not (said := (home / "output").read_text()).endswith("\n") or not said.strip().isdigit():
            if process.poll() is not None or time.monotonic() > deadline:
                raise proc.StartError(said)
            time.sleep(0.02)
        yield int(said)


class Cost:
    """The resources that a process used during the block."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.memory: list[float] = []  # MiB: before, in between, after
        self.cpu = 0.0  # seconds

    async def during(self, listening: Coroutine[None, None, Heard]) -> Heard:
        self.memory, began = [proc.resident_mib(self.pid)], proc.cpu_seconds(self.pid)
        watcher = asyncio.get_running_loop().create_task(self._watch())
        heard = await listening
        watcher.cancel()
        self.cpu = proc.cpu_seconds(self.pid) - began
        await asyncio.sleep(SETTLE)
        self.memory.append(proc.resident_mib(self.pid))
        return heard

    async def _watch(self) -> None:
        while True:
            self.memory.append(proc.resident_mib(self.pid))
            await asyncio.sleep(0.5)


def _report(direct: Heard, through: Heard, cost: Cost) -> str:
    memory = cost.memory
    per_event = cost.cpu / max(1, through.events) * 1e6
    lines = [
        "| ms | direct: median | p99 | max | through: median | p99 | max |",
        "| --- " + "| ---: " * 6 + "|",
        _row("first event, from before the connection", direct.first, through.first),
        _row("an event, from its sending", direct.passed, through.passed),
        _row("longest silence of a stream", direct.longest_gaps, through.longest_gaps),
        "",
        f"events: {through.events} through the proxy, {direct.events} direct",
        f"faults: {_faults(through)}; direct: {_faults(direct)}",
        f"memory: {memory[0]:.1f} MiB before, {max(memory):.1f} at most, {memory[-1]:.1f} after",
        f"CPU: {cost.cpu:.2f} s, {per_event:.0f} µs an event, handshakes included",
    ]
    return "\n".join(lines)


def _row(name: str, direct: list[float], through: list[float]) -> str:
    return (
        f"| {name} | " + " | ".join(figure for times in (direct, through) for figure in _three(times)) + " |"
    )


def _three(times: list[float]) -> list[str]:
    """Median, 99th percentile and maximum."""
    ordered = sorted(times) or [float("nan")]
    return [f"{ordered[int((len(ordered) - 1) * part)] * 1000:.1f}" for part in (0.5, 0.99, 1)]


def _faults(heard: Heard) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in (+heard.faults).items()) or "0"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
