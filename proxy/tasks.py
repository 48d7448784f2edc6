"""The only place that starts a task: it has a name, is kept alive, and its failure is logged and counted.

A bare `asyncio.create_task` may be collected while it runs, and swallows its exception; ruff bans it. Loops
that the process depends on are started by `forever`: an unexpected exception is logged with its traceback and
counted (metric `internal_errors_total`), and the loop goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from proxy.observe.events import unexpected

T = TypeVar("T")

OTHER: Final = "other"  # the label of a task whose name may hold an account
FIRST_PAUSE: Final = 0.1  # seconds after a first unexpected exception: changes must be seen within a second
LONGEST_PAUSE: Final = 10.0  # seconds after many in a row: a traceback every 10 s, no busy loop

internal_errors: Final = Counter({OTHER: 0})  # unexpected exceptions of this process, by task

_log = logging.getLogger("proxy.tasks")
_running: set[asyncio.Task[Any]] = set()


class Finished(Exception):
    """Raised by a step of `forever` to end the loop."""


def spawn(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start `work` as a task called `name`."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_finished)
    return task


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        report(OTHER, error, f"task {task.get_name()} failed")


def forever(name: str, step: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
    """Start a task that awaits `step()` again and again, until it is cancelled or a step raises Finished.

    `step` makes its own pauses. `name` is a metric label: a fixed text, never with an account.
    """
    internal_errors[name] += 0  # the series exists from the start
    return spawn(repeat(name, step), name)


async def repeat(name: str, step: Callable[[], Awaitable[object]]) -> None:
    """As `forever`, in the calling task."""
    guard = Guard(name)
    while True:
        try:
            await step()
        except Finished:
            return
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            await asyncio.sleep(guard.failed(error))  # an awaitable of the step was cancelled, not this task
        except Exception as error:  # noqa: BLE001 (any other exception would end the loop for good)
            await asyncio.sleep(guard.failed(error))
        else:
            guard.worked()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class Guard:
    """Reports the unexpected exceptions of one loop; the pause after each doubles."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pause = FIRST_PAUSE
        internal_errors[name] += 0

    def failed(self, error: BaseException) -> float:
        """Report `error`. Returns the seconds to pause before the next turn."""
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        report(self._name, error, f"unexpected error in {self._name!r}: it goes on; report it")
        return pause

    def worked(self) -> None:
        """A turn has succeeded: reset the pause."""
        self._pause = FIRST_PAUSE


def report(name: str, error: BaseException, message: str) -> None:
    """Log `error` with its traceback, and count it under `name`, a fixed text."""
    internal_errors[name] += 1
    unexpected(_log, "internal_error", message, error, task=name)


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until they have ended."""
    doomed = [task for task in tasks if task is not None and not task.done()]
    for task in doomed:
        task.cancel()
    if doomed:
        await asyncio.wait(doomed)
