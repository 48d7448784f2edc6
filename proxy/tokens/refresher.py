"""Refreshes tokens ahead of their expiry, by the index of due times in the store.

It knows nothing but what is due: it sleeps until the earliest due time, or for a while, and starts flights.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Config
from proxy.errors import StoreError, TokenError
from proxy.store.base import Store
from proxy.tokens.manager import TokenManager

LOOK_AGAIN: Final = 5.0  # seconds; another process may have saved a token that is due sooner
AT_LEAST: Final = 0.2  # seconds; what is due and can't be refreshed must not spin
BATCH: Final = 100  # accounts looked at in one turn

_log = logging.getLogger("proxy.tokens")


async def keep_fresh(manager: TokenManager, store: Store, config: Config, clock: Clock) -> None:
    """Run for ever."""
    while True:
        try:
            due = await store.due_before(clock.wall() + LOOK_AGAIN, BATCH)
        except StoreError as error:
            _log.error("the store can't be asked what is due: %s", error)
            due = []
        now = clock.wall()
        for at, key in due:
            if at <= now and key.credential in config.credentials:
                await _wake(manager, *key)
        upcoming = [at - now for at, _ in due if at > now]
        await asyncio.sleep(max(AT_LEAST, min(upcoming, default=LOOK_AGAIN)) if upcoming or not due else 1.0)


async def _wake(manager: TokenManager, credential: str, name: str) -> None:
    account = manager.account(credential, name)
    try:
        if not account.loaded:
            await manager.load(account)
    except TokenError:
        return  # logged where it happened
    manager.refresh_behind(account)
