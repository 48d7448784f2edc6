"""TLS sessions of upstreams: with one, a handshake needs no certificate and no signature.

OpenSSL checks no certificate in a resumed handshake. So the sessions of a route are used for it alone, i.e.
for one SSLContext (authorities, client certificate), server name and upstream; they end with it, as when a
reload replaces the context; and none is used later than LONGEST after the full handshake that verified the
certificate, however often it has been resumed since.

A ticket of TLS 1.3 is used once (RFC 8446 section C.4), and each connection brings the next one. A session of
TLS 1.2 is used again and again: most servers send no other when it is resumed.

An upstream that does not accept a session makes a full handshake by itself. Then all sessions of the route
are forgotten: they come from the same server. When a handshake with a session fails, none is kept for REST
either: some servers give sessions that they can't resume.

Python copies a session by encoding and parsing it with the certificate, both when it is read and when it is
set: each takes a fifth of a full handshake. So sessions that would not be kept are not read. Some versions
of Python leak the copy (`leaks`): on these, a process reads a limited number of sessions, and makes full
handshakes afterwards.
"""

from __future__ import annotations

import ssl
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from proxy.clock import boot_seconds

LONGEST: Final = 3600.0  # seconds; an upstream whose certificate is replaced or expires is noticed by then
REST: Final = 60.0  # seconds; so such a server costs one more connection a minute
MOST_OF_A_ROUTE: Final = 64  # tickets; with as many dials a burst of callers begins (dial_bound.py)
NEVER: Final = float("inf")
MOST: Final = 1024  # sessions of all routes; some 7 KiB each
MOST_LOST: Final = 1024  # sessions, too
NO_LIMIT: Final = sys.maxsize


def leaks(python: tuple[int, int, int]) -> bool:
    """Whether this version loses each session that it reads: github.com/python/cpython/issues/116810."""
    return python < (3, 12, 8) or (3, 13, 0) <= python < (3, 13, 1)


class Session:
    """A session to offer in a handshake. Times are of the boot clock, in seconds."""

    __slots__ = ("once", "session", "until", "verified")

    def __init__(self, session: ssl.SSLSession, verified: float, until: float, *, once: bool) -> None:
        self.session = session
        self.verified = verified  # when the certificate was, in a full handshake
        self.until = until
        self.once = once


class Sessions:
    """The sessions of one route."""

    __slots__ = ("_all", "_kept", "_none_until")

    def __init__(self, all_sessions: SessionCache) -> None:
        self._all = all_sessions
        self._kept: dict[int, Session] = {}  # by number, the newest at the end
        self._none_until = 0.0  # none is kept before

    def take(self) -> Session | None:
        """A session for the next handshake, if there is one: the newest, which lasts longest."""
        now = self._all.now()
        while self._kept:
            number = next(reversed(self._kept))
            session = self._kept[number]
            is_current = now < session.until
            if session.once or not is_current:
                self._drop(number)
            if is_current:
                return session
        return None

    def agreed(self, tls: ssl.SSLObject, offered: Session | None) -> float:
        """After a handshake: the time at which the certificate was verified."""
        if offered is not None:
            if tls.session_reused:
                return offered.verified
            self._forget()
        return self._all.now()

    def keep(self, tls: ssl.SSLObject, verified: float) -> None:
        """Keep the session of a connection on which data has arrived: tickets of TLS 1.3 come before it."""
        now = self._all.now()
        if now < self._none_until or now >= verified + LONGEST:
            return
        once = tls.version() == "TLSv1.3"
        if not self._has_room(MOST_OF_A_ROUTE if once else 1, now):
            return
        if not self._all.may_read():
            return
        session = tls.session
        if session is None or not (session.has_ticket or (session.id and not once)):
            return
        until = verified + LONGEST
        if session.has_ticket and (once or session.ticket_lifetime_hint):  # 0 in TLS 1.2: not said
            until = min(until, now + session.ticket_lifetime_hint)
        self._kept[self._all.number_for(self)] = Session(session, verified, until, once=once)

    def _has_room(self, most: int, now: float) -> bool:
        while len(self._kept) >= most:
            oldest = next(iter(self._kept))
            if now < self._kept[oldest].until:
                return False
            self._drop(oldest)
        return True

    def failed(self) -> None:
        """A handshake with one of them has failed, perhaps for it."""
        self._none_until = max(self._none_until, self._all.now() + REST)
        self._forget()

    def retire(self) -> None:
        """Keep no session from now on."""
        self._none_until = NEVER
        self._forget()

    def _forget(self) -> None:
        while self._kept:
            self._drop(next(reversed(self._kept)))

    def _drop(self, number: int) -> None:
        del self._kept[number]
        self._all.dropped(number)

    def evict(self, number: int) -> None:
        """For SessionCache."""
        del self._kept[number]


class SessionCache:
    """The sessions of all routes, which bounds their number: the oldest give way."""

    __slots__ = ("_holders", "_last", "_most", "now", "reads_left")

    def __init__(
        self, most: int = MOST, now: Callable[[], float] = boot_seconds, reads: int = NO_LIMIT
    ) -> None:
        """`now`: seconds of the boot clock, which goes on while the machine is suspended.

        `reads`: how many sessions may be read.
        """
        self.now = now
        self.reads_left = reads
        self._most = most
        self._last = 0
        self._holders: OrderedDict[int, Sessions] = (
            OrderedDict()
        )  # by the number of a session, the oldest first

    def __len__(self) -> int:
        return len(self._holders)

    def may_read(self) -> bool:
        """Whether another session may be read; it counts as read."""
        self.reads_left -= 1
        return self.reads_left >= 0

    def number_for(self, holder: Sessions) -> int:
        """The number of another session, for which there is room then."""
        if len(self._holders) >= self._most:
            oldest, other = self._holders.popitem(last=False)
            other.evict(oldest)
        self._last += 1
        self._holders[self._last] = holder
        return self._last

    def dropped(self, number: int) -> None:
        del self._holders[number]


_VERSION: Final = sys.version_info
_READS: Final = MOST_LOST if leaks((_VERSION.major, _VERSION.minor, _VERSION.micro)) else NO_LIMIT
cache: Final = SessionCache(reads=_READS)  # one per process, like its memory
