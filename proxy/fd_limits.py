"""The limit of open files. A caller's connection takes one file, and the connection to its upstream another.

The kernel gives a new file the lowest free number, so this number shows how near the limit is: an accepted
connection has one; to ask before there is a connection, a file is opened and closed, which costs more.
Callers don't get the last files: an accepted caller needs an upstream, and the store, authorization servers
and admin pages need files too; without any file left, the event loop can't even send a refusal. If files are
few, connections of the admin listener get at most half of this reserve, and those of the health listener a
fifth. They don't count for callers: none can starve another.
"""

from __future__ import annotations

import errno
import logging
import resource
import socket
import sys
import time
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.observe.events import ERROR, WARNING, event

RESERVE: Final = 64  # files: for refreshes, the store, and callers that are being refused; beside admin pages
RESERVE_SHARE: Final = 0.25  # of all files at most
FOR_UPSTREAMS: Final = 0.25  # share of the rest, so that idle callers do not take all files
FEW: Final = 8192  # files: of fewer, a burst of 1024 connections (the backlog) might take the reserve
PER_CALLER: Final = 2  # files: the caller's connection, and the one to its upstream
LOG_EVERY: Final = 60.0  # seconds; a line for each refused caller would flood the log
USED_UP: Final = frozenset({errno.EMFILE, errno.ENFILE})  # limit of the process; of the machine
REMEDY: Final = "raise LimitNOFILE= of the service or `ulimit -n`, or lower limits.connections"

_log = logging.getLogger("proxy.fd_limits")


def raise_limit(callers: int) -> None:
    """Raise the soft limit of open files to the need of `callers`, as far as the hard limit permits.

    Logs a warning if that is not enough. Not higher than needed, as child processes inherit it.
    """
    needed = callers * PER_CALLER
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if _below(soft, possible):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
            soft = possible
        except (OSError, ValueError):  # macOS has a lower limit of its own
            pass
    if _below(soft, needed):
        sentence = (
            f"limits.connections = {callers} can need {needed} open files, and this process may have {soft}: "
            f"{REMEDY}"
        )
        event(_log, WARNING, "open_files_few", sentence, needed=needed, limit=soft)


def _below(limit: int, wanted: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < wanted


@dataclass(slots=True)
class Share:
    """The part of the reserve for one listener: how many connections it may have, and how many it has."""

    most: int
    open: int = 0


class Spare(Protocol):
    """Open files that can be done without: idle connections (relay/idle.py)."""

    @property
    def is_empty(self) -> bool: ...

    def close_one(self) -> None:
        """Only if it is not empty."""
        ...


class Descriptors:
    """Admission of connections by the number of open files. Refusals are logged.

    spare: gives way to callers.

    are_few: whether connections must be refused before they are accepted, as one burst may take all files.
    admin, health: the shares of these listeners; at most as many connections as asked for.
    """

    def __init__(self, admin: int = 0, health: int = 0) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            limit = sys.maxsize
        self._limit = limit
        self.are_few = limit < FEW
        wanted, possible = RESERVE + admin + health, int(limit * RESERVE_SHARE)
        reserve = min(wanted, possible)
        self.admin = Share(admin if reserve == wanted else min(admin, max(reserve // 2, 1)))
        self.health = Share(health if reserve == wanted else min(health, max(reserve // 5, 1)))
        self._usable = limit - reserve
        self._by_callers = int(self._usable * (1 - FOR_UPSTREAMS))
        self._by_refused = (self._by_callers + self._usable) // 2  # open until the refusal is sent
        self._by_callers_with_spare = (self._by_callers + self._by_refused) // 2  # or none could be refused
        self._logged_at = float("-inf")
        self.spare: Spare | None = None

    def hold_caller(self, number: int) -> bool:
        """Whether an accepted caller may stay. `number`: of its connection's file."""
        if number < self._by_callers or self._leaves(number, self._by_callers):
            return True
        if self._leaves(number, self._by_callers_with_spare) and self._close_spare():
            return True
        self.log_refusal()
        return False

    def refuse_caller(self, number: int) -> bool:
        """Whether a refusal can be sent to an accepted caller; otherwise its connection is closed."""
        return self._leaves(number, self._by_refused)

    def hold_another_caller(self) -> bool:
        """Whether another caller could be held."""
        if self._reach(self._by_callers) or (self.spare is not None and not self.spare.is_empty):
            return True
        self.log_refusal()
        return False

    def refuse_another_caller(self) -> bool:
        """Whether a refusal could be sent to another caller."""
        most = self._by_refused
        return self._reach(most) or (self._close_spare() and self._reach(most))

    def can_hold_another_upstream(self) -> bool:
        """Whether another connection to an upstream may be opened; a no is not logged."""
        return self._reach(self._usable)

    def hold_another_upstream(self) -> bool:
        """The same, logged."""
        if self.can_hold_another_upstream():
            return True
        self.log_refusal()
        return False

    def _close_spare(self) -> bool:
        """Whether a file was freed."""
        if self.spare is None or self.spare.is_empty:
            return False
        self.spare.close_one()
        return True

    def _reach(self, most: int) -> bool:
        try:
            with socket.socket() as probe:
                return self._leaves(probe.fileno(), most)
        except OSError:
            return False

    def _leaves(self, number: int, most: int) -> bool:
        """Whether a file of this number leaves the others enough."""
        return number < most + self.admin.open + self.health.open

    def log_refusal(self) -> None:
        """At most once in LOG_EVERY."""
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            sentence = (
                f"refusing connections, as this process may have only {self._limit} open files: {REMEDY}"
            )
            event(_log, ERROR, "connections_refused", sentence, limit=self._limit)
