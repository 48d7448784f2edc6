"""Carries out the schedule on workers, store and authorization server, and records it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

from proxy.demo import faults
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.faults import Fault
from tests.jepsen.backends import Backend
from tests.jepsen.history import Recorder
from tests.jepsen.process import Process
from tests.jepsen.schedule import TRAP, Act

POLL = 0.02  # seconds
SCRIPTS: dict[str, Sequence[Fault]] = {
    "drop-after-commit": [faults.NAMED["drop-after-commit"]],
    "drop-before": [faults.NAMED["drop-before"]] * 2,
    "slow": [faults.delay(0.8)],
    "slow-after-commit": [Fault(name="slow-after-commit", wait_after=1.5)],  # longer than any timeout
    "outage": [faults.NAMED["outage"]] * 3,
}


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
        self._killing = asyncio.Lock()  # one at a time: a worker must survive to refill an emptied store

    async def carry_out(self, acts: Sequence[Act]) -> None:
        """Each at its time, even if earlier ones are not done."""
        started = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for act in acts:
                await asyncio.sleep(started + act.at - asyncio.get_running_loop().time())
                group.create_task(self._do(act))

    async def end(self) -> None:
        """End all faults."""
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
