"""Refreshes tokens ahead of their expiry, by the index of due times in the store.

The index is by the wall clock and only says whom to look at; whether a token is due, its account says by
the boot clock. So a wall clock that jumps makes nobody early, and nobody late. What is found and can't be
refreshed now is given another time in the index: it must not stand before others, and a process that has
looked at it need not remember it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from proxy.clock import Clock
from proxy.errors import StoreError
from proxy.store.base import Due, Store
from proxy.tokens.gate import CROWD
from proxy.tokens.manager import TokenManager

LOOK_AGAIN: Final = 1.0  # seconds; another process may have saved a token that is due sooner
AT_LEAST: Final = 0.2  # seconds between two looks
BATCH: Final = 2 * CROWD  # accounts of a credential in one look: some are under way, others may begin
NOTE_AFTER: Final = 60.0  # seconds between two looks at which accounts were used

_log = logging.getLogger("proxy.tokens")


async def keep_fresh(manager: TokenManager, store: Store, clock: Clock) -> None:
    """Run for ever."""
    wall_at_boot = clock.wall() - clock.boot()
    note_at = clock.boot() + NOTE_AFTER
    while True:
        now = max(clock.wall(), wall_at_boot + clock.boot())
        wait = LOOK_AGAIN
        try:
            wait = await _look(manager, store, now)
            if clock.boot() >= note_at:
                note_at = clock.boot() + NOTE_AFTER
                await manager.note_uses()
        except StoreError as error:
            _log.error("the store can't be asked what is due: %s", error)
        except Exception:  # noqa: BLE001 (what nobody thought of must not end this: tokens would expire)
            _log.exception("an error in keeping tokens fresh: report it")
        await asyncio.sleep(max(AT_LEAST, wait))


async def _look(manager: TokenManager, store: Store, now: float) -> float:
    """Start what is due. Returns in how many seconds to look again. Raises StoreError."""
    for account in manager.restless():
        await manager.refresh_if_due(Due(now, account.key, None))
    waits = [LOOK_AGAIN]
    for due in await store.due_before(manager.credentials_with_room(), now + LOOK_AGAIN, BATCH):
        wait = await manager.refresh_if_due(due)
        if wait >= LOOK_AGAIN:
            await manager.postpone(due.key, wait)
        elif wait > 0:
            waits.append(wait)
    return min(waits)
