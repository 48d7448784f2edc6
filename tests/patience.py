"""Limits of waiting that hold on a machine whose cores are busy with something else."""

from __future__ import annotations

import asyncio
import os

BUSY_FOR_EACH = 5.0  # how much longer a wait may take for each process more than cores that wants to run


def slowness() -> float:
    """1 while there is a core for each process that wants to run, by the load of the last minute."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1) - 1
    return 1 + BUSY_FOR_EACH * max(0.0, waiting)


def within(seconds: float) -> asyncio.Timeout:
    """A promise of so many seconds, kept by a machine that has the time; by a busy one later."""
    return asyncio.timeout(seconds * slowness())
