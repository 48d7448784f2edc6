"""Servers in processes of their own."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.wiring import free_ports

POLL = 0.02  # seconds
START_LIMIT = 90  # seconds; a busy machine is no failure


def wait_until(condition: Callable[[], Any], what: str, seconds: float = START_LIMIT) -> Any:
    """The result of `condition` once it is true; the test fails if that takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(POLL)
    pytest.fail(f"{what}: not within {seconds} seconds")


def free_port() -> int:
    (port,) = free_ports(0)
    return port


def plain_environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The variables that a program needs, without others of this machine."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **extra}


class Service:
    """A server that writes a journal to stdout: a JSON object a line, the first one when it is ready."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._journal = folder / "journal"
        self._errors = folder / "errors"
        self._marked = 0
        with self._journal.open("wb") as out, self._errors.open("wb") as err:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=err, env=plain_environment(folder, environment)
            )
        self.ready: dict[str, Any] = wait_until(self._ready, " ".join(command))

    def _ready(self) -> dict[str, Any] | None:
        if self._process.poll() is not None:
            pytest.fail(f"the server ended at once: {self._errors.read_text()}")
        return next(iter(self._events("ready")), None)

    def mark(self) -> None:
        """From now on `events` has new events only."""
        self._marked = len(self._lines())

    def events(self, name: str) -> list[dict[str, Any]]:
        return self._events(name, self._marked)

    def _events(self, name: str, after: int = 0) -> list[dict[str, Any]]:
        return [event for event in map(json.loads, self._lines()[after:]) if event["event"] == name]

    def _lines(self) -> list[str]:
        lines = self._journal.read_text().splitlines(keepends=True)
        return [line for line in lines if line.startswith("{") and line.endswith("\n")]

    def pause(self) -> None:
        """The kernel still accepts connections; there are no responses."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
