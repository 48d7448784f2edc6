"""The difference between an authorization server's clock and ours, by the Date of its token responses."""

from __future__ import annotations

import logging
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.oauth.binding import server_of
from proxy.observe.events import INFO, WARNING, event

TOLD_FROM: Final = 60.0  # seconds; more than a slow response and two clocks that are kept right come to
OVER_BELOW: Final = 30.0  # seconds; so that a difference near the limit is not reported again and again

_log = logging.getLogger("proxy.oauth")


def known(clock: Clock, credential: Credential) -> float | None:
    """Seconds that the server's clock is ahead of ours now, to a second or so; None: not known yet."""
    heard = clock.heard.get(server_of(credential))
    return None if heard is None else heard + clock.boot() - clock.wall()


class SkewWatch:
    """Reports a difference once, until it is over."""

    def __init__(self) -> None:
        self._told: set[str] = set()  # credentials

    def note(self, credential: str, seconds: float) -> None:
        """`seconds`: how far the server's clock is ahead of ours, at least; negative: behind."""
        if credential in self._told and abs(seconds) < OVER_BELOW:
            self._told.discard(credential)
            event(
                _log,
                INFO,
                "clock_skew",
                "%s: the clocks of this machine and of the authorization server agree again",
                credential,
                credential=credential,
                skew_s=round(seconds),
            )
        elif credential not in self._told and abs(seconds) >= TOLD_FROM:
            self._told.add(credential)
            event(
                _log,
                WARNING,
                "clock_skew",
                "%s: the clock of the authorization server is %.0f s %s that of this machine: check both; "
                "the times of tokens in metrics and pages are wrong by that much if this machine's is wrong",
                *(credential, abs(seconds), "ahead of" if seconds > 0 else "behind"),
                credential=credential,
                skew_s=round(seconds),
            )
