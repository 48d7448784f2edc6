"""Launch links: a page address that gives the browser that opens it first a session, once, for some minutes.

To make one takes write access to the store, which our own user has. The link is in no program's arguments
(see commands/open.py), as every user of a machine can read those.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from proxy.config.model import Config
from proxy.store.base import Store

PATH: Final = "/launch"
VALID: Final = 300.0  # seconds from its making to its use: to switch windows, not to have lunch
VALID_SAID: Final = f"{VALID / 60:.0f} minutes"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 random bytes


async def make(config: Config, store: Store) -> str:
    """A new launch link. Raises StoreError."""
    token = secrets.token_urlsafe(32)
    await store.stash(f"launch:{token}", b"1", VALID)
    return f"{config.public_url}{PATH}/{token}"


async def use(store: Store, token: str) -> bool:
    """Whether the link with this token may be used now: once. Raises StoreError."""
    if not _TOKEN.fullmatch(token) or await store.take(f"launch:{token}") is None:
        return False
    await store.stash(f"launched:{token}", b"1", VALID)
    return True


async def was_used(store: Store, link: str) -> bool:
    """For the command that made it. Raises StoreError."""
    return await store.take(f"launched:{link.rpartition('/')[2]}") is not None
