"""Processes of the product for the cost of a fork: their parent has imported their modules already.

Each is a process of its own, as if started by a shell; the tests need hundreds of them.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from proxy import cli
from proxy.config.load import load
from proxy.config.model import Config
from proxy.errors import TokenError
from proxy.services import open_services

PR_SET_PTRACER, ANYONE = 0x59616D61, ctypes.c_ulong(-1)  # prctl(2)
PATIENCE = 90  # seconds; far more than any message of a process takes

# The last two are imported with the first request: traces would differ.
_IMPORTED = ("proxy.commands.run", "proxy.commands.hardening", "encodings.idna", "encodings.utf_8_sig")
_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload([__name__, *_IMPORTED])


class Child:
    """A process, and the pipe to it."""

    def __init__(self, target: Callable[..., None], *args: Any) -> None:
        self._line, its_end = _forkserver.Pipe()
        self._process = _forkserver.Process(target=target, args=(*args, its_end), daemon=True)
        self._process.start()
        its_end.close()

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    async def hears(self) -> str | None:
        """Its next message; None when it has ended."""
        if not await asyncio.to_thread(self._line.poll, PATIENCE):
            raise TimeoutError(f"process {self.pid} says nothing")
        try:
            return str(self._line.recv())
        except (EOFError, ConnectionResetError):
            return None

    def tell(self, word: str) -> None:
        self._line.send(word)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    async def end(self) -> int:
        """Wait for its end: its exit code, or a signal's number below zero."""
        await asyncio.to_thread(multiprocessing.connection.wait, [self._process.sentinel], PATIENCE)
        # Read in the event loop's thread, as starting another process reads it too: if two threads read it
        # at once, multiprocessing returns 255 to one of them.
        code = self._process.exitcode
        if code is None:
            self.kill()
            raise TimeoutError(f"process {self.pid} does not end")
        return code


@asynccontextmanager
async def refresher(config: Config, account: str) -> AsyncIterator[Child]:
    """On "go", it refreshes as the button on the status page does, says "done" or the name of the error, and
    ends. It does not outlive the block.
    """
    process = Child(_refresh, config.path, account)
    try:
        assert await process.hears() == "ready"
        yield process
    finally:
        process.kill()


@asynccontextmanager
async def serving(config: Config, log: Path) -> AsyncIterator[Child]:
    """`token-proxy run`, from when it listens; it does not outlive the block."""
    process = Child(_run, config.path, log)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _listens(config.server.listen[0].port):
                await asyncio.sleep(0.01)
        yield process
    finally:
        process.kill()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


def _refresh(config: Path, account: str, line: Connection) -> None:
    async def main() -> None:
        async with open_services(load(config).config) as services:
            wanted = services.tokens.account("crm", account)
            line.send("ready")
            line.recv()  # from here on a trace shows one refresh only
            try:
                await services.tokens.refresh_now(wanted)
            except TokenError as error:
                line.send(type(error).__name__)
            else:
                line.send("done")

    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYONE, 0, 0, 0)  # where only parents may trace
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _run(config: Path, log: Path, _line: Connection) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    cli.main(["run", "-c", str(config)])
