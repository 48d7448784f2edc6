"""One refresher at a time: a short lease, renewed while the work lasts.

Its holder's name says which process of which boot it is, and which piece of its work. A holder that died
on this host is succeeded at once instead of being waited for; one that can't be judged from here (another
host, another container) is waited for until its lease ends. A lease cannot stop a paused process: its holder
asks its own clock once more in the last moment before it sends (`Lease.check`), and what it saves too late
is told by its generation (store/base.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from proxy import tasks
from proxy.clock import Clock
from proxy.errors import ProxyError, StoreError
from proxy.store.base import Store

LIFETIME: Final = 3.0  # seconds; long enough for a busy machine, short enough to wait out a dead neighbour
SHORTEST_GRACE: Final = (
    5.0  # seconds; servers that repeat the response to a spent refresh token do so for longer
)
RENEW_EVERY: Final = 1.0  # seconds
ASK_AGAIN: Final = 0.05  # seconds, while another has it
LAST_MOMENT: Final = 0.5  # seconds before its end: the way to the server takes a while, too

_log = logging.getLogger("proxy.tokens")


class LeaseLost(ProxyError):
    """Another may have the lease: we were stopped, or cut off from the store, for too long."""


class Lease:
    """A lease that is held, for as long as this process can know it by itself."""

    def __init__(self, clock: Clock) -> None:
        self.was_awaited = False  # another had it, and it ended before our eyes
        self._clock = clock
        self._taken_at = float("-inf")  # boot clock: the last time that it was surely ours

    def taken(self, at: float) -> None:
        self._taken_at = at

    def renewed(self, at: float) -> None:
        """A renewal after the end counts for nothing: another may have had the lease, and be done."""
        if self._clock.boot() < self._taken_at + LIFETIME:
            self._taken_at = at

    def check(self) -> None:
        """To be called in the last moment before what only its holder may do. Raises LeaseLost."""
        if self._clock.boot() >= self._taken_at + LIFETIME - LAST_MOMENT:
            raise LeaseLost("the lease may have passed to another process")


@asynccontextmanager
async def held(store: Store, name: str, process: str, clock: Clock) -> AsyncIterator[Lease]:
    """Wait for the lease and keep it for the length of the block. Raises StoreError.

    Two blocks never hold it at once, not even two of one process.
    """
    owner = f"{process}/{secrets.token_hex(4)}"
    lease = Lease(clock)
    await _take(store, name, owner, lease, clock)
    renewing = tasks.forever("renew a lease", partial(_renew, store, name, owner, lease, clock))
    try:
        yield lease
    finally:
        await tasks.cancel(renewing)
        await _release(store, name, owner)


async def _take(store: Store, name: str, owner: str, lease: Lease, clock: Clock) -> None:
    succeed = None
    while True:
        asked_at = clock.boot()
        holder = await store.lease(name, owner, LIFETIME, succeed=succeed)
        if holder is None:
            lease.taken(asked_at)
            return
        lease.was_awaited = True
        succeed = holder if is_dead(holder, owner) else None
        if succeed is None:
            await asyncio.sleep(ASK_AGAIN)


async def _renew(store: Store, name: str, owner: str, lease: Lease, clock: Clock) -> None:
    await asyncio.sleep(RENEW_EVERY)
    renewed = False
    while not renewed:
        asked_at = clock.boot()
        try:
            if await store.renew(name, owner, LIFETIME):
                lease.renewed(asked_at)
            renewed = True
        except StoreError:
            await asyncio.sleep(
                ASK_AGAIN
            )  # as often as others ask for the lease; the save says what is wrong


async def _release(store: Store, name: str, owner: str) -> None:
    try:
        await store.release(name, owner)
    except StoreError as error:  # what was done under the lease is done; it ends by itself
        _log.warning("the lease %s is not given back before its end: %s", name, error)


def this_process(boot_id: str) -> str:
    """boot / pid namespace / pid / start time: no other process ever had this name."""
    pid = os.getpid()
    return f"{boot_id}/{_pid_namespace()}/{pid}/{_start_time(pid) or uuid.uuid4().hex}"


def is_dead(holder: str, me: str) -> bool:
    """True only if it is certain that the process which holds the lease has ended."""
    place, mine = holder.split("/")[:4], me.split("/")[:4]
    if len(place) < 4 or not place[1] or place[:2] != mine[:2]:
        return False
    _, _, pid, started = place
    return _start_time(pid) != started


def _pid_namespace() -> str:
    """Processes that see the same pids share this; empty where the system doesn't tell."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _start_time(pid: int | str) -> str:
    """Clock ticks from boot to the process's start (proc(5), field 22); empty if there is none such."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return "" if fields[0] == "Z" else fields[19]
