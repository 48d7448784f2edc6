"""Pauses between attempts to refresh. Pure except for the random spread."""

from __future__ import annotations

import random
from typing import Final

from proxy.errors import AuthorizationServerError

BACKOFF_FIRST: Final = 1.0  # seconds
BACKOFF_LAST: Final = 30.0  # seconds
STORE_PAUSE: Final = 2.0  # seconds at most; retries on our own store are cheap
MISCONFIGURED_PAUSE: Final = 120.0  # seconds; a person must correct it
MISCONFIGURED_FIRST: Final = 10.0  # seconds, after the first failure: it may be a short fault of the server


def backoff(failures: int, chance: float | None = None) -> float:
    """Seconds to wait after the `failures`-th failure in a row: uniform(d/2, d), d from 1 to 30 s."""
    delay = min(BACKOFF_FIRST * 2.0 ** (min(failures, 16) - 1), BACKOFF_LAST)
    return delay * (0.5 + 0.5 * (random.random() if chance is None else chance))  # noqa: S311 (spreads load, hides nothing)


def pause_after(error: AuthorizationServerError, failures: int) -> float:
    """Seconds until the next try after the `failures`-th failure in a row; at least the Retry-After."""
    if error.outcome == "misconfigured":
        pause = MISCONFIGURED_FIRST if failures <= 1 else MISCONFIGURED_PAUSE
    else:
        pause = backoff(failures)
    if error.error == "store":
        pause = min(pause, STORE_PAUSE)
    return max(pause, error.retry_after or 0.0)
