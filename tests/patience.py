"""Limits of waiting that hold on a machine whose cores are busy with something else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

BUSY_FOR_EACH = 5.0  # how much longer a wait may take for each process more than cores that wants to run
FOR_CERTAIN = 60.0  # seconds for what comes sooner or later


def slowness() -> float:
    """1 while there is a core for each process that wants to run, by the load of the last minute."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1) - 1
    return 1 + BUSY_FOR_EACH * max(0.0, waiting)


def within(seconds: float) -> asyncio.Timeout:
    """A promise of so many seconds, kept by a machine that has the time; by a busy one later."""
    return asyncio.timeout(seconds * slowness())


async def until(condition: Callable[[], Any]) -> Any:
    """The result of `condition` once it is true, where no event tells of it."""
    async with asyncio.timeout(FOR_CERTAIN):
        while not (found := condition()):
            await asyncio.sleep(0.01)
        return found
