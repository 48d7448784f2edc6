"""One refresh at a time across processes: a short lease, renewed while the work lasts.

The holder's name contains boot, process and a random part for the block. A lease whose holder died on this
host is taken over at once; if that can't be determined (another host, another container), the lease is waited
for until it ends. A lease cannot stop a suspended process: so its holder checks its own clock just before it
sends (`Lease.check`), and a save that is too late fails by its generation (store/base.py).
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
from proxy.observe.events import WARNING, decision, event
from proxy.store.base import Store

LIFETIME: Final = 3.0  # seconds; long enough for a busy machine, short enough to wait for after a crash
SHORTEST_GRACE: Final = (
    5.0  # seconds; servers that repeat the response to a spent refresh token do so for at least this
)
RENEW_EVERY: Final = 1.0  # seconds
POLL_EVERY: Final = 0.05  # seconds between tries, while another has it
LAST_MOMENT: Final = 0.5  # seconds before its end: the request takes time to reach the server

_log = logging.getLogger("proxy.tokens")


class LeaseLost(ProxyError):
    """Another process may have the lease: we were suspended, or cut off from the store, for too long."""


class Lease:
    """A held lease, with its validity by this process's own clock."""

    def __init__(self, clock: Clock) -> None:
        self.was_awaited = False  # another had it, and we saw it end
        self._clock = clock
        self._held_since = float("-inf")  # boot clock: start of the last request that got or renewed it

    def acquired(self, at: float) -> None:
        self._held_since = at

    def renewed(self, at: float) -> None:
        """A renewal after its end is ignored: another may have held the lease in between."""
        if self._clock.boot() < self._held_since + LIFETIME:
            self._held_since = at

    def check(self) -> None:
        """Call just before an action that only its holder may do. Raises LeaseLost."""
        if self._clock.boot() >= self._held_since + LIFETIME - LAST_MOMENT:
            raise LeaseLost("the lease may have passed to another process")


@asynccontextmanager
async def holding(
    store: Store, name: str, process: str, clock: Clock, *, again: float = POLL_EVERY
) -> AsyncIterator[Lease]:
    """Wait for the lease and hold it for the duration of the block. Raises StoreError.

    Two blocks never hold it at once, not even two of one process. `again`: seconds between tries, while
    another has it.
    """
    owner = f"{process}/{secrets.token_hex(4)}"
    lease = Lease(clock)
    await _acquire(store, name, owner, lease, clock, again)
    renewing = tasks.forever("renew a lease", partial(_renew, store, name, owner, lease, clock))
    try:
        yield lease
    finally:
        await tasks.cancel(renewing)
        await _release(store, name, owner)


async def _acquire(
    store: Store, name: str, owner: str, lease: Lease, clock: Clock, again: float = POLL_EVERY
) -> None:
    succeed = None
    while True:
        asked_at = clock.boot()
        holder = await store.lease(name, owner, LIFETIME, succeed=succeed)
        if holder is None:
            lease.acquired(asked_at)
            decision(_log, "the lease %s is ours", name)
            return
        succeed = holder if is_dead(holder, owner) else None
        if succeed is not None:
            decision(_log, "the holder of the lease %s is dead: it is taken over", name)
        elif not lease.was_awaited:
            decision(_log, "another holds the lease %s: it is awaited", name)
        lease.was_awaited = True
        if succeed is None:
            await asyncio.sleep(again)


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
                POLL_EVERY
            )  # as often as others try to get the lease; the save reports the error


async def _release(store: Store, name: str, owner: str) -> None:
    try:
        await store.release(name, owner)
    except StoreError as error:  # the work is done; the lease ends by itself
        sentence = f"the lease {name} could not be released and ends by itself: {error}"
        event(_log, WARNING, "lease_not_released", sentence)


def this_process(boot_id: str) -> str:
    """boot / pid namespace / pid / start time: unique among all processes, past ones included."""
    pid = os.getpid()
    return f"{boot_id}/{_pid_namespace()}/{pid}/{_start_time(pid) or uuid.uuid4().hex}"


def is_dead(holder: str, me: str) -> bool:
    """True only if the process that holds the lease has certainly ended."""
    place, mine = holder.split("/")[:4], me.split("/")[:4]
    if len(place) < 4 or not place[1] or place[:2] != mine[:2]:
        return False
    _, _, pid, started = place
    return _start_time(pid) != started


def _pid_namespace() -> str:
    """The same for processes that see the same pids; empty if the system has none."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _start_time(pid: int | str) -> str:
    """Clock ticks from boot to the process's start (proc(5), field 22); empty if it does not exist."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the process name before it may contain anything
    return "" if fields[0] == "Z" else fields[19]
