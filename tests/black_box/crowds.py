"""Crowds of callers, upstreams that count and long ways to them, as processes; and what a proxy uses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import trustme

from tests.black_box.conftest import Command, until
from tests.fakes.crowd import Plan

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds; a busy machine is no failure
# The command without a bound of dials, for a comparison; `limits.dials` must permit it too.
UNBOUNDED = (
    "-c",
    "from proxy.relay import dial_bound; dial_bound.AT_FIRST = 1_000_000; from proxy.cli import main; main()",
)
ROUTE = """
[[routes]]
name = "{name}"
path = "/{name}"
upstream = "{scheme}://localhost:{port}"
credential = "{credential}"
{more}
"""


def route(
    port: int, name: str = "up", *, ca: Path | None = None, credential: str = "m2m", more: str = ""
) -> str:
    scheme = "https" if ca else "http"
    tls = f'tls = {{ ca = "{ca}" }}\n' if ca else ""
    return ROUTE.format(name=name, scheme=scheme, port=port, credential=credential, more=tls + more)


@contextmanager
def _program(module: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A program of tests/fakes that ends with its stdin."""
    command = [sys.executable, "-m", f"tests.fakes.{module}", *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        _in(process).close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            _out(process).close()


def _in(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdin is not None
    return process.stdin


def _out(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def _read(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = _out(process).readline()
    assert line, f"{process.args!r} ended with {process.wait(PATIENCE)}"
    read: dict[str, Any] = json.loads(line)
    return read


class Upstream:
    """tests/fakes/counting_upstream.py"""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(_read(process)["port"])

    def change(self, **changes: object) -> dict[str, Any]:
        """Change attributes of its State; returns all of them."""
        _in(self._process).write(json.dumps(changes) + "\n")
        _in(self._process).flush()
        return _read(self._process)

    @property
    def seen(self) -> dict[str, Any]:
        return self.change()


@contextmanager
def upstream(certificate: Path | None = None, host: str = "127.0.0.1", **state: object) -> Iterator[Upstream]:
    """`certificate`: a PEM file of key and chain, for TLS. `state`: attributes of its State."""
    with _program("counting_upstream", certificate or "", host) as process:
        made = Upstream(process)
        made.change(**state)
        yield made


@contextmanager
def relay(port: int, each_way: float) -> Iterator[int]:
    """The port of a relay to `port` that takes so many seconds each way."""
    with _program("delaying_relay", port, each_way) as process:
        yield int(_read(process)["port"])


class Crowd:
    """tests/fakes/crowd.py"""

    def __init__(self, process: subprocess.Popen[str], plan: Plan) -> None:
        self._process = process
        self._write(json.dumps(asdict(plan)))
        self._result: dict[str, Any] | None = None

    def _write(self, line: str) -> None:
        _in(self._process).write(line + "\n")
        _in(self._process).flush()

    def _until(self, event: str) -> dict[str, Any]:
        while (said := _read(self._process))["event"] != event:
            assert said["event"] != "done", f"it ended before {event!r}: {said}"
        return said

    def wait_until_sent(self) -> None:
        """Wait until every caller has sent its first request."""
        self._until("sent")

    def vanish(self) -> int:
        """The planned share of the callers that still wait for a response go; returns their number."""
        self._write("vanish")
        return int(self._until("vanished")["callers"])

    def result(self) -> dict[str, Any]:
        if self._result is None:
            self._result = self._until("done")
        return self._result


@contextmanager
def crowd(port: int, callers: int, **plan: Any) -> Iterator[Crowd]:
    """Callers that come at once; see tests/fakes/crowd.Plan."""
    with _program("crowd") as process:
        yield Crowd(process, Plan(port, callers, **plan))


def ask(port: int, callers: int, **plan: Any) -> dict[str, Any]:
    """What a crowd has seen, when all have been served, refused, or have gone."""
    with crowd(port, callers, **plan) as started:
        return started.result()


@dataclass(frozen=True)
class Certificates:
    ca: Path
    both: Path  # key and chain

    @classmethod
    def made_in(cls, folder: Path) -> Certificates:
        made = cls(folder / "ca.pem", folder / "both.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(made.ca))
        issued = authority.issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(str(made.both))
        return made


# -- what the proxy uses


def metric(command: Command, name: str, **labels: str) -> float:
    """The sum of the samples of token_proxy_`name` that have these labels."""
    total = 0.0
    for line in command.get("/metrics", admin=True)[1].decode().splitlines():
        sample, _, value = line.rpartition(" ")
        found, _, rest = sample.partition("{")
        if found == f"token_proxy_{name}" and all(f'{key}="{text}"' in rest for key, text in labels.items()):
            total += float(value)
    return total


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def sockets(pid: int) -> int:
    """Sockets among its open files."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += entry.readlink().name.startswith("socket:")
    return found


def wait_until_at_rest(command: Command, route_name: str = "up") -> None:
    """No request in flight, none waiting for a connection, no upstream connection in use."""

    def at_rest() -> bool:
        return not (
            metric(command, "requests_in_flight", route=route_name)
            or metric(command, "upstream_connections", route=route_name, state="active")
        )

    until(at_rest, "the proxy is at rest", PATIENCE)
