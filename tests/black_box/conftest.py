"""The real command against raw servers, as an external tester would run it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy.demo import RemoteServer, started
from proxy.demo.wiring import free_ports

START_LIMIT = 60.0  # seconds; a busy machine is no failure
POLL = 0.05  # seconds


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)


def until(condition: Callable[[], object], what: str, seconds: float = START_LIMIT) -> None:
    """Wait for `condition`; the test fails after `seconds`, which are no measure of speed."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(POLL)


@dataclass
class Command:
    """`token-proxy run` with a configuration of the test's own, and the other commands beside it."""

    folder: Path
    port: int
    admin_port: int
    files: int = 0  # that it may have open; 0: as many as this process
    environment: dict[str, str] = field(default_factory=dict)  # beside PATH and HOME
    program: tuple[str, ...] = ("-m", "proxy")
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    def configure(self, text: str, *, server: str = "", listen: str = "") -> None:
        """`server`: more lines of [server]. `listen`: more listeners, as TOML."""
        places = f'"127.0.0.1:{self.port}"' + (f", {listen}" if listen else "")
        head = (
            f'[server]\nlisten = [{places}]\nadmin = "127.0.0.1:{self.admin_port}"\n'
            f'state_dir = "{self.folder}/state"\n{server}\n[log]\nformat = "json"\n'
        )
        self.config.write_text(head + text)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            limited = ["sh", "-c", f'ulimit -n {self.files}; exec "$@"', "sh"] if self.files else []
            self._process = subprocess.Popen(
                [*limited, *self._argv("run")], env=self._environment(), stderr=log, stdout=log
            )
        until(lambda: self.get("/healthz", admin=True)[0] == 200, "the proxy responds to /healthz")
        until(self._accepts, "the data listener accepts connections")

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _argv(self, name: str, *more: str) -> list[str]:
        return [sys.executable, *self.program, name, *more, "-c", str(self.config)]

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", **self.environment}

    def run(self, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._argv(name, *more),
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def get(self, path: str, *, admin: bool = False, timeout: float = 60) -> tuple[int, bytes]:
        """Status and body; (0, b"") if there is no connection."""
        port = self.admin_port if admin else self.port
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as got:
                return got.status, got.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def problem(self, path: str) -> str:
        """The ending of the problem document of a response; else its status and body."""
        status, body = self.get(path)
        try:
            return str(json.loads(body)["type"]).rpartition(":")[2]
        except (ValueError, KeyError):
            return f"{status} {body!r}"

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(30)
        self._process = None
        assert code == 0, self.log()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    made = Command(tmp_path, *free_ports(0, 0))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def tokens() -> Iterator[RemoteServer]:
    """A good authorization server, for tests of the data path."""
    with started("--client", "app:secret", "--lifetime", "3600") as server:
        yield server


CREDENTIAL = """
[credentials.{name}]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "app"
client_secret = "secret"
"""


@pytest.fixture
def credential(tokens: RemoteServer) -> Callable[[str], str]:
    """The configuration of a credential that needs no login."""
    return lambda name: CREDENTIAL.format(name=name, issuer=tokens.issuer)


@pytest.fixture
def people(command: Command) -> Iterator[RemoteServer]:
    """An authorization server that redirects to the proxy of this test."""
    callback = f"http://127.0.0.1:{command.admin_port}/callback"
    with started("--client", "app:secret", "--lifetime", "3600", "--redirect-uri", callback) as server:
        yield server
