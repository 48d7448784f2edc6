"""The memory of a process, and its growth."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MB = 1024 * 1024

reads_memory = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")


@dataclass
class Memory:
    before: int = 0
    peak: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def growth(self) -> int:
        return self.peak - self.before

    def sample(self, pid: int) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, resident(pid))


def resident(pid: int) -> int:
    """Bytes, of a process and its descendants."""
    own = 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            own = int(line.split()[1]) * 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(resident(int(child)) for child in children)


@contextmanager
def watched_memory(pid: int) -> Iterator[Memory]:
    memory = Memory(before=resident(pid), peak=resident(pid))
    watcher = threading.Thread(target=memory.sample, args=(pid,))
    watcher.start()
    try:
        yield memory
    finally:
        memory.done.set()
        watcher.join()
