"""What time it is, injected so that tests can jump it and suspend the machine.

Two clocks, for two questions. The wall clock says when (Unix seconds): it is what files, metrics and
other machines understand, and it jumps. The boot clock says how long since: it never jumps and goes on
while the machine sleeps (CLOCK_BOOTTIME), but means nothing after a reboot; `boot_id` tells boots apart.
"""

from __future__ import annotations

import time
import uuid
from functools import partial
from pathlib import Path
from typing import Final, Protocol

# macOS has no such name: its monotonic clock goes on while the machine sleeps.
_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    @property
    def boot_id(self) -> str: ...

    @property
    def heard(self) -> dict[str, float]:
        """What other clocks have told this process, by whose they are: their Unix seconds at our boot 0."""
        ...

    def wall(self) -> float:
        """Unix seconds."""
        ...

    def boot(self) -> float:
        """Seconds since this boot, time asleep included."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self.boot_id = _read_boot_id()
        self.heard: dict[str, float] = {}
        self.wall = time.time
        self.boot = partial(time.clock_gettime, _BOOT_CLOCK)  # each request asks


def _read_boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(uuid.uuid4())  # no way to tell boots apart: every process is a boot of its own
