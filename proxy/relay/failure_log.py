"""Why the upstream of a route fails, refuses new tokens, or may not be used: log lines, once in a while.

An outage fails every request: the same line for each would hide everything else, and tell nothing more.
"""

from __future__ import annotations

import logging
from typing import Final

from proxy.config.model import Route
from proxy.failure_causes import Cause
from proxy.observe.events import WARNING, event
from proxy.relay.upstream_causes import peer_of

CAUSE_EVERY: Final = 60.0  # seconds between two lines about one cause
UNAUTHORIZED_EVERY: Final = 3600.0  # seconds; it persists until somebody changes a configuration
ACCOUNTS: Final = 4096  # of which the last upstream that was not allowed is known; some 500 KiB

_log = logging.getLogger("proxy.relay")


class _Told:
    """A line that was written. `suppressed`: the number of those like it that were not, since."""

    __slots__ = ("again", "suppressed")

    def __init__(self, again: float) -> None:
        self.again = again
        self.suppressed = 0


class FailureLog:
    """Of one route. Times are in seconds, of any monotonic clock."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._told: dict[str, _Told] = {}  # by a code of fixed lists: bounded
        self._not_allowed: dict[str, int] = {}  # by account: a hash of the value, which may be long

    def failed(self, ending: str, cause: Cause, now: float) -> None:
        """Event upstream_failed."""
        suppressed = self._suppressed(cause.code, now, CAUSE_EVERY)
        if suppressed is None:
            return
        route, peer = self._route.name, peer_of(cause, self._route)
        more = f"; {suppressed} more since the last such line" if suppressed else ""
        event(
            _log,
            WARNING,
            "upstream_failed",
            "the upstream of route %s failed (%s): %s%s",
            *(route, peer, cause.sentence, more),
            route=route,
            credential=self._route.credential,
            error=ending,
            cause=cause.sentence,
            peer=peer,
            suppressed=suppressed or None,
        )

    def unauthorized(self, seconds: float, now: float) -> None:
        """Event upstream_unauthorized: the upstream has refused a token that is `seconds` old."""
        if self._suppressed("unauthorized", now, UNAUTHORIZED_EVERY) is None:
            return
        route = self._route
        event(
            _log,
            WARNING,
            "upstream_unauthorized",
            "the upstream of route %s refuses (401) a token that is %.0f s old: check `scopes`, token_params "
            "(audience) and resource of credentials.%s, and `upstream` of the route",
            *(route.name, seconds, route.credential),
            route=route.name,
            credential=route.credential,
            token_age=round(seconds, 1),
        )

    def value_refused(self, now: float) -> None:
        """The same event, for a token that the configuration gives."""
        if self._suppressed("unauthorized", now, UNAUTHORIZED_EVERY) is None:
            return
        route = self._route
        event(
            _log,
            WARNING,
            "upstream_unauthorized",
            "the upstream of route %s refuses (401) the value of credentials.%s: replace it, or correct its "
            "`attach`",
            *(route.name, route.credential),
            route=route.name,
            credential=route.credential,
        )

    def upstream_not_allowed(self, account: str, value: str, sentence: str) -> None:
        """The account's token response names an upstream that is not allowed: told once for each value.

        `value`: what it names, which is not shown. `sentence`: says what is wrong with it.
        """
        if self._not_allowed.get(account) == hash(value):
            return
        self._not_allowed[account] = hash(value)
        if len(self._not_allowed) > ACCOUNTS:
            del self._not_allowed[next(iter(self._not_allowed))]
        event(
            _log,
            WARNING,
            "upstream_not_allowed",
            "%s/%s: no request is sent: %s",
            *(self._route.credential, account, sentence),
            route=self._route.name,
            credential=self._route.credential,
            account=account,
        )

    def _suppressed(self, code: str, now: float, every: float) -> int | None:
        """None if there was a line about it lately, else the number of suppressed lines since the last."""
        told = self._told.get(code)
        if told is not None and now < told.again:
            told.suppressed += 1
            return None
        self._told[code] = _Told(now + every)
        return told.suppressed if told is not None else 0
