"""The log lines of requests. They bypass `logging`: a logging record costs more than relaying the request.

    add ──► lines of this process ──► stderr: at FLUSH_AT lines, at each sweep of the relay, and before any
                                      other line, so that all lines are in the order of their time

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

if TYPE_CHECKING:
    from proxy.config.model import Log

FLUSH_AT: Final = 64  # lines; more are written at once, fewer at the next sweep of the relay
REMEMBERED: Final = 1024  # beginnings of lines; an account of an `account` field adds one for each method
Names = tuple[str, str, str, str, str]  # route, credential, account, caller, method
UNKNOWN: Final = -1.0  # the time of an upstream that did not respond

_JSON: Final = (
    '{"ts": %.3f, "level": "info", "event": "request", %s, "status": %d, "duration_ms": %.1f, '
    '"upstream_ms": %.1f, "bytes_in": %d, "bytes_out": %d%s}\n'
)
# without an upstream's response; "%.0s" takes its time, and writes nothing
_JSON_ALONE: Final = _JSON.replace(' "upstream_ms": %.1f,', "%.0s")
_JSON_REFUSAL: Final = (
    '{"ts": %.3f, "level": "warning", "event": "refused", "message": "refused: %s", "reason": "%s", '
    '"count": %d}\n'
)
_TEXT: Final = "%s INFO    %s: %d in %.1f ms (upstream %.1f ms), %d bytes in, %d bytes out%s\n"
_TEXT_ALONE: Final = _TEXT.replace(" (upstream %.1f ms)", "%.0s")
_TEXT_REFUSAL: Final = "%s WARNING refused: %s, %d times\n"


class RequestLog:
    """Writes a line for each routed request, and counts the others by the reason of their refusal.

    `enabled` is false above level info: requests then cost nothing.
    """

    def __init__(self, log: Log, output: Callable[[str], object] = write) -> None:
        self._write = output
        self._lines: list[str] = []
        self._refused: Counter[str] = Counter()
        self._last = 0.0  # Unix time of the last request, relayed or refused
        self._known: dict[Names, str] = {}  # the part of a line that requests repeat
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
        self._line, self._alone = (_JSON, _JSON_ALONE) if self._json else (_TEXT, _TEXT_ALONE)
        self._known.clear()

    def add(
        self,
        route: str,
        credential: str,
        account: str,  # empty if the request names none
        caller: str,  # empty where callers are not identified
        method: str,
        status: int,
        milliseconds: float,
        upstream: float,  # milliseconds until the upstream's response began; or UNKNOWN
        bytes_in: int,
        bytes_out: int,
        error: str,  # an ending, or empty
        replayed: bool,
        request_id: str,  # a trace id, or empty
        /,
    ) -> None:
        names = route, credential, account, caller, method
        said = self._known.get(names) or self._remember(names)
        more = self._more(error, replayed, request_id) if error or replayed or request_id else ""
        now = self._last = time.time()
        line = self._line if upstream >= 0 else self._alone
        lines = self._lines
        when = now if self._json else clock_time(now)
        lines.append(line % (when, said, status, milliseconds, upstream, bytes_in, bytes_out, more))
        if len(lines) >= FLUSH_AT:
            self.flush()

    def _remember(self, names: Names) -> str:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        said = (_json_names if self._json else _text_names)(*names)
        self._known[names] = said
        return said

    def _more(self, error: str, replayed: bool, request_id: str) -> str:
        """What few requests have."""
        if self._json:
            return (
                (', "replayed": true' if replayed else "")
                + (f', "error": "{error}"' if error else "")
                + (f', "request_id": "{request_id}"' if request_id else "")
            )
        return (
            (", replayed" if replayed else "")
            + (f", error {error}" if error else "")
            + (f", request {request_id}" if request_id else "")
        )

    def refused(self, reason: str) -> None:
        """A request without a route was refused: one line per flush and reason."""
        if self._logs_refusals:
            self._last = time.time()
            self._refused[reason] += 1

    def flush(self) -> None:
        if self._refused:
            now = self._last  # not later than a line that comes next
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


def _json_names(route: str, credential: str, account: str, caller: str, method: str) -> str:
    return (
        f'"message": "{method} on route {route}", "route": "{route}", "credential": "{credential}", '
        f'"account": "{account}"' + (f', "caller": "{caller}"' if caller else "") + f', "method": "{method}"'
    )


def _text_names(route: str, credential: str, account: str, caller: str, method: str) -> str:
    who = f" for {caller}" if caller else ""
    whose = f"account {credential}/{account}" if account else f"credential {credential}"
    return f"{method} on route {route} with {whose}{who}"
