"""A limit on guesses of the admin key, for each peer: one that guesses does not lock out others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cachetools import LRUCache

BURST: Final = 10  # wrong keys in a row; a person who has pasted the wrong one tries a few times
EVERY: Final = 3.0  # seconds until one more is compared: 20 a minute against keys of 20 characters and more
MOST_PEERS: Final = 4096  # remembered; some 500 KiB


class Attempts:
    """Wrong keys by peer: a bucket of BURST, filled again by one each EVERY seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: a clock that never goes back, in seconds."""
        self._now = now
        self._full_at: LRUCache[str, float] = LRUCache(MOST_PEERS)  # when the bucket will be full again

    def wait(self, peer: str) -> float:
        """Seconds until another key of this peer is compared; 0: now."""
        missing = self._full_at.get(peer, 0.0) - self._now()
        return max(0.0, missing - (BURST - 1) * EVERY)

    def failed(self, peer: str) -> None:
        self._full_at[peer] = max(self._full_at.get(peer, 0.0), self._now()) + EVERY
