"""The clocks, injected so that tests can set them and simulate a suspended machine.

The wall clock is for points in time (Unix seconds): files, metrics and other machines understand it, but it
can jump. The boot clock is for durations: it never jumps and goes on while the machine is suspended
(CLOCK_BOOTTIME), but its values are valid only until a reboot, i.e. for one `boot_id`.
"""

from __future__ import annotations

import time
import uuid
from functools import partial
from pathlib import Path
from typing import Final, Protocol

# macOS has no CLOCK_BOOTTIME, but its monotonic clock goes on while the machine is suspended.
_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
boot_seconds: Final = partial(time.clock_gettime, _BOOT_CLOCK)  # see Clock.boot; called for each request


class Clock(Protocol):
    """The interface of a clock: `SystemClock`, or one that tests move by hand."""

    @property
    def boot_id(self) -> str:
        """An id of this boot of the machine: boot clock values of other boots are not comparable."""
        ...

    @property
    def heard(self) -> dict[str, float]:
        """Clocks of other machines, as seen in responses: name -> its Unix time at our boot time 0."""
        ...

    def wall(self) -> float:
        """Unix seconds."""
        ...

    def boot(self) -> float:
        """Seconds since boot, including suspended time."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self.boot_id = _read_boot_id()
        self.heard: dict[str, float] = {}
        self.wall = time.time
        self.boot = boot_seconds


def _read_boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(uuid.uuid4())  # boots can't be told apart: each process counts as one
