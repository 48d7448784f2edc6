"""Pauses between attempts to refresh. Pure, but for the random spread."""

from __future__ import annotations

import random
from typing import Final

from proxy.errors import AuthorizationServerError

BACKOFF_FIRST: Final = 1.0  # seconds
BACKOFF_LAST: Final = 30.0  # seconds
STORE_PAUSE: Final = 2.0  # seconds at most; to ask our own disk again costs nobody anything
MISCONFIGURED_PAUSE: Final = 120.0  # seconds; a person must mend it
MISCONFIGURED_FIRST: Final = 10.0  # seconds; unless it was a fault of the server's, which is soon over


def backoff(failures: int, chance: float | None = None) -> float:
    """Seconds to wait after the `failures`-th failure in a row: uniform(d/2, d), d from 1 to 30 s."""
    delay = min(BACKOFF_FIRST * 2.0 ** (min(failures, 16) - 1), BACKOFF_LAST)
    return delay * (0.5 + 0.5 * (random.random() if chance is None else chance))  # noqa: S311 (spreads load, hides nothing)


def pause_after(error: AuthorizationServerError, failures: int) -> float:
    """Seconds until the next try after the `failures`-th failure in a row: ours, or longer if asked for."""
    if error.outcome == "misconfigured":
        pause = MISCONFIGURED_FIRST if failures <= 1 else MISCONFIGURED_PAUSE
    else:
        pause = backoff(failures)
    if error.error == "store":
        pause = min(pause, STORE_PAUSE)
    return max(pause, error.retry_after or 0.0)
