"""A worker as a process: to start, order, stop and kill it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.jepsen.history import Recorder
from tests.patience import within

READY = 30.0  # seconds until a worker serves, or has ended; a busy machine is no failure


class Process:
    """A worker by its name; after a kill a new process takes the name, with the next number."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, recorder: Recorder) -> None:
        self._name = name
        self._command = command
        self._folder = folder
        self._recorder = recorder
        self._lives = 0
        self._process: asyncio.subprocess.Process | None = None
        self._paused = False
        self._serves = False
        self._reviving = asyncio.Lock()

    @property
    def name(self) -> str:
        return f"{self._name}{self._lives}"

    @property
    def history(self) -> Path:
        return self._folder / f"{self.name}.history"

    @property
    def is_running(self) -> bool:
        return self._serves and not self.has_ended and not self._paused

    async def start(self, *accounts: str) -> None:
        self._lives += 1
        self._serves = False
        *first, api = self._command
        with (self._folder / f"{self.name}.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.jepsen.worker", *first, self.name, str(self.history)),
                *(api, *accounts),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._paused = False

    async def ready(self) -> None:
        await self.says("ready", READY)
        self._serves = True

    async def revive(self, *accounts: str) -> None:
        """Start another process if it has ended."""
        async with self._reviving:
            if self.has_ended:
                await self.start(*accounts)
                await self.ready()

    async def says(self, word: str, seconds: float) -> None:
        """Wait for it. Raises TimeoutError."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with within(seconds):
            said = await self._process.stdout.readline()
        if said.decode() != f"{word}\n":
            raise RuntimeError(f"{self.name} has ended: {self._folder / self.name}.log")

    def order(self, **order: Any) -> None:
        if self._process is not None and self._process.stdin is not None and self._process.returncode is None:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def stop(self) -> None:
        if self.is_running and not self.has_stopped():
            assert self._process is not None
            self._recorder.note("paused", process=self.name)
            self._process.send_signal(signal.SIGSTOP)
            self._paused = True

    def resume(self) -> None:
        if self._process is not None and not self.has_ended and (self._paused or self.has_stopped()):
            self._process.send_signal(signal.SIGCONT)
            self._recorder.note("resumed", process=self.name)
        self._paused = False

    async def retire(self) -> None:
        """Let it finish its work. Raises TimeoutError."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with within(READY):
            await self._process.wait()

    async def kill(self) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
            self._recorder.note("killed", process=self.name)
        await self._process.wait()

    def has_stopped(self) -> bool:
        """Also true if a trap has stopped it."""
        assert self._process is not None
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    @property
    def has_ended(self) -> bool:
        return self._process is not None and self._process.returncode is not None
