"""The difference between an authorization server's clock and ours, by the Date of its token responses."""

from __future__ import annotations

import logging
from typing import Final

from proxy.clock import Clock
from proxy.config.model import Credential
from proxy.oauth.binding import server_of
from proxy.observe.events import INFO, WARNING, event

TOLD_FROM: Final = 60.0  # seconds; above the error by a slow response and two synchronized clocks
OVER_BELOW: Final = 30.0  # seconds; so that a difference near the limit is not reported again and again

_log = logging.getLogger("proxy.oauth")


def known(clock: Clock, credential: Credential) -> float | None:
    """Seconds that the server's clock is ahead of ours now, to a second or so; None: not known yet."""
    heard = clock.heard.get(server_of(credential))
    return None if heard is None else heard + clock.boot() - clock.wall()


def server_now(clock: Clock, credential: Credential) -> float:
    """The server's Unix time, for what it compares with its clock; ours while the difference is unknown."""
    return clock.wall() + (known(clock, credential) or 0.0)


class SkewWatch:
    """Reports a difference once, until it is over."""

    def __init__(self) -> None:
        self._told: set[str] = set()  # credentials

    def note(self, credential: str, seconds: float) -> None:
        """`seconds`: how far the server's clock is ahead of ours, at least; negative: behind."""
        if credential in self._told and abs(seconds) < OVER_BELOW:
            self._told.discard(credential)
            sentence = "the clocks of this machine and of the authorization server agree again"
            self._report(INFO, credential, sentence, seconds)
        elif credential not in self._told and abs(seconds) >= TOLD_FROM:
            self._told.add(credential)
            sentence = (
                f"the clock of the authorization server is {abs(seconds):.0f} s "
                f"{'ahead of' if seconds > 0 else 'behind'} that of this machine: check both; "
                "if this machine's is wrong, so are the times of tokens in metrics and pages"
            )
            self._report(WARNING, credential, sentence, seconds)

    @staticmethod
    def _report(level: int, credential: str, sentence: str, seconds: float) -> None:
        whole = round(seconds)
        event(_log, level, "clock_skew", f"{credential}: {sentence}", credential=credential, skew_s=whole)
