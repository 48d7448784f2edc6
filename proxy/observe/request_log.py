"""The log lines of requests. They bypass `logging`: a logging record costs more than relaying the request.

    add ──► lines of this process ──► stderr: at FLUSH_AT lines, at each sweep of the relay, and before any
                                      other line, so that all lines are in the order of their time

request_lines.py makes them.

No line has a query string, a path, a field value or a token: lines consist of names from the configuration,
numbers, and our own words. All names match the patterns of the configuration: none needs escaping.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from proxy.observe import logs
from proxy.observe.logs import clock_time, wants_json, write
from proxy.observe.request_lines import RequestLines

if TYPE_CHECKING:
    from proxy.config.model import Log

FLUSH_AT: Final = 64  # lines; more are written at once, fewer at the next sweep of the relay

_JSON_REFUSAL: Final = (
    '{"ts": %.3f, "level": "warning", "event": "refused", "message": "refused: %s", "reason": "%s", '
    '"count": %d}\n'
)
_TEXT_REFUSAL: Final = "%s WARNING refused: %s, %d times\n"


class RequestLog:
    """Writes a line for each routed request, and counts the others by the reason of their refusal.

    `enabled` is false above level info: requests then cost nothing. `lines` makes the lines.
    """

    def __init__(self, log: Log, output: Callable[[str], object] = write) -> None:
        self._write = output
        self._lines: list[str] = []
        self._refused: Counter[str] = Counter()
        self._refused_at = 0.0  # Unix time of the last one
        self._thread = threading.get_ident()
        self.use(log)
        if output is write:
            logs.pending.add(self)

    def use(self, log: Log) -> None:
        """Use another level and format from now on."""
        level = logs.level_of(log)
        self.enabled = level in {"debug", "info"}
        self._logs_refusals = level != "error"
        self._json = wants_json(log)
        self.lines = RequestLines(json=self._json)

    def add(self, line: str) -> None:
        """`line`: of `lines`, for a request that has a route."""
        self._lines.append(line)
        if len(self._lines) >= FLUSH_AT:
            self.flush()

    def refused(self, reason: str) -> None:
        """A request without a route was refused: one line per flush and reason."""
        if self._logs_refusals:
            self._refused_at = time.time()
            self._refused[reason] += 1

    def flush(self) -> None:
        if self._refused:
            now = max(self._refused_at, self.lines.last)  # not later than a line that comes next
            self._lines += [self._refusal(now, reason, count) for reason, count in self._refused.items()]
            self._refused.clear()
        if not self._lines:
            return
        text = "".join(self._lines)
        self._lines.clear()
        self._write(text)

    def flush_before(self) -> None:
        """Flush before a line that is newer; other threads don't, as nothing here is locked."""
        if threading.get_ident() == self._thread:
            self.flush()

    def _refusal(self, now: float, reason: str, count: int) -> str:
        if self._json:
            return _JSON_REFUSAL % (now, reason, reason, count)
        return _TEXT_REFUSAL % (clock_time(now), reason, count)
