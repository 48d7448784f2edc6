"""A clock that stands still until it is moved."""

from __future__ import annotations


class FakeClock:
    def __init__(self, wall: float = 1_800_000_000.0, boot: float = 5_000.0, boot_id: str = "boot-1") -> None:
        self.boot_id = boot_id
        self.heard: dict[str, float] = {}
        self._wall = wall
        self._boot = boot
        self._boots = 1

    def wall(self) -> float:
        return self._wall

    def boot(self) -> float:
        return self._boot

    def advance(self, seconds: float) -> None:
        """Time passes, awake or suspended: both clocks go on while a machine sleeps."""
        self._wall += seconds
        self._boot += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self._wall += seconds

    def reboot(self, off: float = 10.0) -> None:
        """The machine was off for so many seconds and has just come up."""
        self._boots += 1
        self.boot_id = f"boot-{self._boots}"
        self._wall += off
        self._boot = 1.0
        self.heard.clear()
