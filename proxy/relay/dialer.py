"""How the pools of one route open connections."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from proxy.config.model import Limits, Route
from proxy.http.message import HeadLimits
from proxy.relay import problems
from proxy.relay.dial import dial
from proxy.relay.idle import IdleConnections
from proxy.relay.problems import Refusal
from proxy.relay.tls_sessions import Sessions
from proxy.relay.wire import Wire

Dial = Callable[[Route, ssl.SSLContext | None, float, Sessions | None], Awaitable[Wire]]


class Dialer:
    """`heads`: what reading responses remembers, for all routes. `idle`: the connections of all pools, which
    give way if open files run short.
    """

    __slots__ = ("_dial", "_sessions", "_tls", "head_limits", "idle", "limits", "route")

    def __init__(
        self,
        route: Route,
        tls: ssl.SSLContext | None,
        limits: Limits,
        heads: HeadLimits,
        idle: IdleConnections,
        dial: Dial = dial,
        sessions: Sessions | None = None,
    ) -> None:
        self.route = route
        self.limits = limits
        self.head_limits = heads
        self.idle = idle
        self._tls = tls
        self._dial = dial
        self._sessions = sessions

    async def dial(self) -> Wire:
        """A new connection, within `limits.connect`. Raises Refusal (502, 503, 504)."""
        if not self.idle.make_room():
            raise Refusal(problems.OVERLOADED, problems.NO_FILES, retry_after=1)
        return await self._dial(self.route, self._tls, self.limits.connect, self._sessions)
