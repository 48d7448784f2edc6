"""A thread for work with files that may be on a file system which hangs, like that of a dead server.

The event loop does not wait for it, nor does the end of the process: it is a daemon. One job at a time, so
that a hung file system takes one thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Job = tuple[Callable[[], Any], "Future[Any]"]


class FileThread:
    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="look at files", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, after the jobs before it. Cancelling this does not cancel `work`."""
        result: Future[T] = Future()
        self._jobs.put((work, result))
        return await asyncio.wrap_future(result)

    def close(self) -> None:
        """End the thread after its present job, without waiting."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, result = job
            if not result.set_running_or_notify_cancel():
                continue
            try:
                result.set_result(work())
            except BaseException as error:  # noqa: BLE001 (it is for the caller)
                result.set_exception(error)
            del work, result, job  # what they hold must not live until the next job
