"""Refreshes tokens ahead of their expiry, by the index of due times in the store.

The index is by the wall clock and only says whom to look at; whether a token is due, its account says by
the boot clock. So a wall clock that jumps makes nobody early, and nobody late.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Config
from proxy.errors import StoreError
from proxy.store.base import Due, Store
from proxy.tokens.accounts import KEPT
from proxy.tokens.manager import TokenManager

LOOK_AGAIN: Final = 1.0  # seconds; another process may have saved a token that is due sooner
AT_LEAST: Final = 0.2  # seconds between two looks
BATCH: Final = 100  # accounts that are new in one look, and refreshes under way

_log = logging.getLogger("proxy.tokens")


async def keep_fresh(manager: TokenManager, store: Store, config: Config, clock: Clock) -> None:
    """Run for ever."""
    wall_at_boot = clock.wall() - clock.boot()
    seen: dict[Due, float] = {}
    while True:
        now = max(clock.wall(), wall_at_boot + clock.boot())
        # what was due before and is still there (held back, or of no use) takes no place from others
        due = await _due_before(store, now + LOOK_AGAIN, min(BATCH + len(seen), KEPT))
        for key in manager.restless():
            if manager.refreshes_under_way < BATCH:
                await manager.refresh_if_due(key)
        seen = await _look_at(due, seen, manager, config)
        await asyncio.sleep(min([LOOK_AGAIN, *(max(AT_LEAST, wait) for wait in seen.values() if wait > 0)]))


async def _due_before(store: Store, when: float, limit: int) -> list[Due]:
    try:
        return await store.due_before(when, limit)
    except StoreError as error:
        _log.error("the store can't be asked what is due: %s", error)
        return []


async def _look_at(
    due: list[Due], seen: dict[Due, float], manager: TokenManager, config: Config
) -> dict[Due, float]:
    """Start the refreshes that are due. Returns for each in how many seconds to look at it again."""
    waits: dict[Due, float] = {}
    for entry in due:
        key = entry.key
        if manager.refreshes_under_way >= BATCH:
            break
        if seen.get(entry) == math.inf or key.credential not in config.credentials:
            waits[entry] = math.inf  # until it is put again, with another due time
        else:
            waits[entry] = await manager.refresh_if_due(key)
    return waits
