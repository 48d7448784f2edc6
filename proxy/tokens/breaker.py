"""One probe at a time to an authorization server that is down.

Each account waits by itself between its refreshes (account.py). That is enough for a few accounts; the
thousands that one client may have would still come to thousands of requests. So when several accounts of
a credential have failed and none has succeeded since, its server counts as down: one account at a time
may try, with pauses between, until one succeeds.
"""

from __future__ import annotations

from typing import Final

from proxy.clock import Clock
from proxy.errors import AuthorizationServerError
from proxy.store.base import Key
from proxy.tokens import life

ACCOUNTS: Final = 3  # that must fail: fewer may have a trouble of their own, which is not to hold up others
LONGEST_PAUSE: Final = 10.0  # seconds; below an account's own, so that it is not always the same who tries


class Breaker:
    """Shared by the accounts of one credential."""

    def __init__(self, clock: Clock) -> None:
        self.failure: AuthorizationServerError | None = None  # the last one, while the server counts as down
        self.hold_until = float("-inf")  # boot clock
        self._failing: set[Key] = set()
        self._pauses = 0
        self._probing = False
        self._clock = clock

    @property
    def is_closed(self) -> bool:
        """Whether a refresh may start now."""
        return self.failure is None or (not self._probing and self._clock.boot() >= self.hold_until)

    def started(self) -> None:
        self._probing = self.failure is not None

    def ended(self) -> None:
        self._probing = False

    def succeeded(self) -> None:
        self._failing.clear()
        self.failure, self._pauses = None, 0

    def failed(self, key: Key, error: AuthorizationServerError) -> None:
        if len(self._failing) < ACCOUNTS:
            self._failing.add(key)
        if len(self._failing) < ACCOUNTS:
            return
        now = self._clock.boot()
        if self.failure is None or now >= self.hold_until:  # else it was under way with others that failed
            self._pauses += 1
            pause = min(life.backoff(self._pauses), LONGEST_PAUSE)
            self.hold_until = now + max(pause, error.retry_after or 0.0)
        self.failure = error
