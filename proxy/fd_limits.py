"""How many files this process may have open. Sockets are files: a caller takes one, and its upstream another.

The kernel gives a new file the lowest number that is free, so that number tells how near the limit is.
Callers don't get the last ones: who has been let in needs an upstream, then come the store, the authorization
servers and the admin pages, and without a single one left the event loop can only hang up on who connects.
"""

from __future__ import annotations

import errno
import logging
import resource
import socket
import sys
import time
from typing import Final

RESERVE: Final = 64  # files: a page, a refresh, the store's, and callers that are being told to come again
FOR_UPSTREAMS: Final = 0.25  # of the rest: idle callers, who need none, must not take all
PER_CALLER: Final = 2  # files: the caller's connection, and the one to its upstream
TELL_EVERY: Final = 60.0  # seconds; each caller that is turned away would fill the log
USED_UP: Final = frozenset({errno.EMFILE, errno.ENFILE})  # this process's limit, the machine's
REMEDY: Final = "raise LimitNOFILE= of the service or `ulimit -n`, or lower limits.connections"

_log = logging.getLogger("proxy.fd_limits")


def raise_limit(callers: int) -> None:
    """Raise the soft limit of open files to what so many callers need, as far as the hard limit permits.

    Warns if that is too little. No higher than needed: programs that we start inherit it.
    """
    needed = callers * PER_CALLER
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if _below(soft, possible):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
            soft = possible
        except (OSError, ValueError):  # macOS has a limit of its own below "unlimited"
            pass
    if _below(soft, needed):
        _log.warning(
            "limits.connections = %d can need %d open files, and this process may have %d: %s",
            callers,
            needed,
            soft,
            REMEDY,
        )


def _below(limit: int, wanted: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < wanted


class Descriptors:
    """What callers and upstreams may use of this process's files. What has no room, the log tells of."""

    def __init__(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            limit = sys.maxsize
        self._limit = limit
        self._usable = limit - min(RESERVE, limit // 4)
        self._by_callers = int(self._usable * (1 - FOR_UPSTREAMS))
        self._by_refused = (self._by_callers + self._usable) // 2  # they linger, to hear the answer
        self._told = float("-inf")

    def hold_another_caller(self) -> bool:
        """Whether a caller that has just connected may stay."""
        if self._reach(self._by_callers):
            return True
        self._tell()
        return False

    def refuse_another_caller(self) -> bool:
        """Whether there is room to answer one that may not stay; else it is to be hung up on."""
        return self._reach(self._by_refused)

    def hold_another_upstream(self) -> bool:
        """Whether one more connection to an upstream may be opened."""
        if self._reach(self._usable):
            return True
        self._tell()
        return False

    def _reach(self, most: int) -> bool:
        try:
            with socket.socket() as probe:
                return probe.fileno() < most
        except OSError:
            return False

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= TELL_EVERY:
            self._told = now
            _log.error(
                "callers are turned away, for this process may have %d open files: %s", self._limit, REMEDY
            )
