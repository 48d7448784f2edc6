"""When a token is fresh, stale or expired, and when to try again. Pure: numbers in, numbers out.

issued ──────────── fresh ─────────── due ── stale ── expired ── expiry
                                       │       │         └ no longer attached
                                       │       └ attached, while one refresh runs behind
                                       └ a share of its life, a little earlier by chance (jitter)
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, Literal, get_args

from proxy.clock import Clock
from proxy.errors import AuthorizationServerError
from proxy.oauth.token import Token

TokenState = Literal["valid", "stale", "expired", "login_required", "misconfigured", "absent"]
STATES: Final[tuple[TokenState, ...]] = get_args(TokenState)

ASSUMED_LIFETIME: Final = 3600.0  # seconds; where a server says none, refresh as if (most say an hour)
JITTER: Final = 0.1  # of the time until due: accounts that began together must not stay together
EXPIRY_MARGIN: Final = 5.0  # seconds; the way to the upstream, and clocks that differ a little
EXPIRY_MARGIN_SHARE: Final = 0.05  # of its life, for short tokens
BACKOFF_FIRST: Final = 1.0  # seconds
BACKOFF_LAST: Final = 30.0  # seconds
STORE_PAUSE: Final = 2.0  # seconds at most; to ask our own disk again costs nobody anything
MISCONFIGURED_PAUSE: Final = 120.0  # seconds; a person must mend it, unless it was a fault of the server's


@dataclass(frozen=True, slots=True)
class Window:
    """Until when a token is good, on the boot clock."""

    due: float
    expired: float


def due_after(lifetime: float | None, refresh_at: float, chance: float) -> float:
    """Seconds from issue to the refresh ahead of time. `chance` is uniform in [0, 1)."""
    share = (lifetime or ASSUMED_LIFETIME) * refresh_at
    return share * (1 - JITTER * chance)


def expired_after(lifetime: float | None) -> float:
    """Seconds from issue until it is no longer attached; a token of unknown life is, until a 401."""
    if lifetime is None:
        return float("inf")
    return lifetime - min(EXPIRY_MARGIN, EXPIRY_MARGIN_SHARE * lifetime)


def window(token: Token, due_at: float | None, clock: Clock) -> Window:
    """The token's window now. `due_at` (Unix seconds) is the due time that was saved with it.

    A token of this boot is timed by the boot clock, which does not jump; an older one by the wall clock. If
    that says that the token comes from the future, its age is unknown: it gets one more life at most.
    """
    if token.access_token is None:
        return Window(due=float("-inf"), expired=float("-inf"))
    if token.boot_id == clock.boot_id:
        issued = token.issued_boot
    else:
        issued = clock.boot() - max(0.0, clock.wall() - token.issued_at)
    due = float("inf") if due_at is None else issued + (due_at - token.issued_at)
    expired = issued + expired_after(token.lifetime)
    return Window(due=min(due, expired), expired=expired)


def backoff(failures: int, chance: float | None = None) -> float:
    """Seconds to wait after the `failures`-th failure in a row: uniform(d/2, d), d from 1 to 30 s."""
    delay = min(BACKOFF_FIRST * 2.0 ** (min(failures, 16) - 1), BACKOFF_LAST)
    return delay * (0.5 + 0.5 * (random.random() if chance is None else chance))  # noqa: S311 (spreads load, hides nothing)


def pause_after(error: AuthorizationServerError, failures: int) -> float:
    """Seconds until the next try after the `failures`-th failure in a row: ours, or longer if asked for."""
    pause = MISCONFIGURED_PAUSE if error.outcome == "misconfigured" else backoff(failures)
    if error.error == "store":
        pause = min(pause, STORE_PAUSE)
    return max(pause, error.retry_after or 0.0)
