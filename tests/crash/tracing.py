"""strace: the system calls of a process from now on, and a signal to it at one of them.

A call is named as strace counts: the thread (0 is the first), the name of the call, and its number in this
thread since the trace began ("0 pwrite64 #3"). A process that is killed at a call has not made it: being
killed at each call in turn covers every state that is visible from outside. A process that is stopped at a
call stops after it.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from tests.servers.programs import find

# Calls with effects outside the process, or results from there; locks end with the process.
CALLS: Final = (
    *("openat", "pwrite64", "pwritev", "fdatasync", "fsync", "ftruncate", "rename", "linkat", "unlink"),
    *("socket", "connect", "write", "writev", "sendto", "sendmsg"),
    *("read", "readv", "recvfrom", "recvmsg", "shutdown", "close"),
)
PATIENCE: Final = 90  # seconds until strace has attached, or has ended with the process
STOPPED: Final = "--- stopped by SIGSTOP ---"  # in a trace
_BEGUN: Final = re.compile(r"^(?:(\d+) +)?(\w+)\((.*)$")  # strace names the thread if there are several


class Call(NamedTuple):
    thread: int
    name: str
    nth: int

    def __str__(self) -> str:
        return f"{self.thread} {self.name} #{self.nth}"


class Traced(NamedTuple):
    call: Call
    text: str  # its arguments and its result, as strace shows them


def threads(pid: int) -> list[int]:
    """In order of creation."""
    return sorted(int(path.name) for path in Path(f"/proc/{pid}/task").iterdir())


def state(pid: int) -> str:
    """As in proc(5): T for a stopped process, t for one that stops for strace."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@asynccontextmanager
async def tracing(pid: int, into: Path) -> AsyncIterator[None]:
    """Trace all threads of the process; at the block's end wait for its end."""
    async with _strace("-f", "-p", str(pid), "-o", str(into)):
        yield


@asynccontextmanager
async def signalling(pid: int, call: Call, signal: str, into: Path) -> AsyncIterator[None]:
    """Send the process a signal when it makes that call; at the block's end wait for its end."""
    thread = threads(pid)[call.thread]
    inject = f"inject={call.name}:signal={signal}:when={call.nth}"
    async with _strace("-p", str(thread), "-o", str(into), "-e", inject):
        yield


@asynccontextmanager
async def _strace(*options: str) -> AsyncIterator[None]:
    command = (find("strace"), "-yy", "-s", "0", "-e", f"trace={','.join(CALLS)}", *options)
    strace = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert strace.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE):
            attached = (await strace.stderr.readline()).decode()
        assert "attached" in attached, attached
        yield
        async with asyncio.timeout(PATIENCE):
            await strace.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            strace.kill()
        raise


def calls_in(trace: str, known: list[int]) -> list[Traced]:
    """The calls of the threads `known`, in the order of their begin."""
    made: Counter[tuple[int, str]] = Counter()
    calls = []
    for line in trace.splitlines():
        begun = _BEGUN.match(line)
        if begun is None or int(begun[1] or known[0]) not in known:
            continue
        thread, name = known.index(int(begun[1] or known[0])), begun[2]
        made[thread, name] += 1
        calls.append(Traced(Call(thread, name, made[thread, name]), begun[3]))
    return calls
