"""Does what the schedule says to workers, store and authorization server, and notes it."""

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

from proxy.demo import faults
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.faults import Fault
from tests.jepsen.backends import Backend
from tests.jepsen.history import Recorder
from tests.jepsen.schedule import TRAP, Act

POLL = 0.02  # seconds
READY = 30.0  # seconds until a worker serves; a busy machine is no failure
SCRIPTS: dict[str, Sequence[Fault]] = {
    "drop-after-commit": [faults.NAMED["drop-after-commit"]],
    "drop-before": [faults.NAMED["drop-before"]] * 2,
    "slow": [faults.delay(0.8)],
    "slow-after-commit": [Fault(name="slow-after-commit", wait_after=1.5)],  # longer than anyone waits
    "outage": [faults.NAMED["outage"]] * 3,
}


class Process:
    """A worker's place; after a kill a new process takes it, under the next number."""

    def __init__(self, place: str, command: Sequence[str], folder: Path, recorder: Recorder) -> None:
        self._place = place
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
        return f"{self._place}{self._lives}"

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
        """Another takes its place if it has ended."""
        async with self._reviving:
            if self.has_ended:
                await self.start(*accounts)
                await self.ready()

    async def says(self, word: str, seconds: float) -> None:
        """Wait for it. Raises TimeoutError."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
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
        """Have it finish what it is at. Raises TimeoutError."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(READY):
            await self._process.wait()

    async def kill(self) -> None:
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
            self._recorder.note("killed", process=self.name)
        await self._process.wait()

    def has_stopped(self) -> bool:
        """Also by itself, in a trap."""
        assert self._process is not None
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    @property
    def has_ended(self) -> bool:
        return self._process is not None and self._process.returncode is not None


class Nemesis:
    def __init__(
        self,
        workers: dict[str, Process],
        accounts: Sequence[str],
        server: AuthorizationServer,
        backend: Backend,
        recorder: Recorder,
    ) -> None:
        self._workers = workers
        self._accounts = accounts
        self._server = server
        self._backend = backend
        self._recorder = recorder
        self._killing = (
            asyncio.Lock()
        )  # somebody must live on: to ask within the grace, to fill an emptied store

    async def carry_out(self, acts: Sequence[Act]) -> None:
        """Each at its time, whatever those before it are still at."""
        started = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for act in acts:
                await asyncio.sleep(started + act.at - asyncio.get_running_loop().time())
                group.create_task(self._do(act))

    async def end(self) -> None:
        """Everything is well again."""
        self._server.faults.clear()
        for worker in self._workers.values():
            worker.order(do="trap", step=None, signal=signal.SIGSTOP)
            worker.resume()
        for worker in self._workers.values():
            await worker.revive(*self._accounts)
        self._recorder.note("calm")

    async def _do(self, act: Act) -> None:
        worker = self._workers[act.who]
        if act.what == "fault":
            self._recorder.note("fault", how=act.how)
            self._server.script(*SCRIPTS[act.how], lasting=TRAP)
        elif act.what == "store":
            await self._backend.disturb(act.how, act.seconds, self._recorder)
        elif not worker.is_running or worker.has_stopped():
            return
        elif act.what == "pause":
            worker.stop()
            await asyncio.sleep(act.seconds)
            worker.resume()
        elif act.what == "trap":
            await self._trap(worker, act, signal.SIGSTOP)
            await asyncio.sleep(act.seconds)
            worker.resume()
        elif act.what in {"kill", "trap-kill"}:
            await self._kill(worker, act)
        else:
            worker.order(do=act.what, account=act.account)

    async def _kill(self, worker: Process, act: Act) -> None:
        if self._killing.locked():
            return
        async with self._killing:
            if act.what == "kill":
                await worker.kill()
            else:
                await self._trap(worker, act, signal.SIGKILL)
            await asyncio.sleep(act.seconds)
            await worker.revive(*self._accounts)

    async def _trap(self, worker: Process, act: Act, number: signal.Signals) -> None:
        worker.order(do="trap", step=act.how, signal=number)
        for _ in range(round(TRAP / POLL)):
            await asyncio.sleep(POLL)
            if worker.has_ended or worker.has_stopped():
                return
        worker.order(do="trap", step=None, signal=number)
