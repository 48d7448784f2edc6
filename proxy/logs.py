"""Log lines on stderr: JSON for machines, plain words on a terminal.

Requests have a way of their own (`RequestLog`): building a logging record costs more than relaying the
request. Their lines are gathered and written a few times a second. No line holds a query string, a field
value or a token: what is logged are names from the configuration, numbers, and our own sentences.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from proxy.config.model import Log

EVENT_FIELDS: Final = ("credential", "account", "route", "reason", "signal", "listen", "version")
FLUSH_AT: Final = 64  # lines; more are written at once, fewer after FLUSH_AFTER
FLUSH_AFTER: Final = 0.25  # seconds; server.py keeps it


class JsonFormatter(logging.Formatter):
    """One object a line: ts, level, event, then what belongs to the event."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name.rpartition(".")[2]),
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in EVENT_FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")


def wants_json(log: Log) -> bool:
    return log.format == "json" or (log.format == "auto" and not sys.stderr.isatty())


def set_up(log: Log) -> None:
    """Send everything to stderr. aiohttp's own loggers stay at warnings: they repeat what was sent."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if wants_json(log) else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("proxy").setLevel(log.level.upper())
    for noisy in ("aiohttp.server", "asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


class RequestLog:
    """Writes one line a request; `enabled` is false above level info, and then it costs nothing."""

    def __init__(self, log: Log, write: Callable[[str], object] | None = None) -> None:
        self.enabled = log.level in {"debug", "info"}
        self._line = _json_line if wants_json(log) else _text_line
        self._write = write or sys.stderr.write
        self._lines: list[str] = []

    def add(
        self,
        route: str,
        credential: str,
        account: str,
        method: str,
        status: int,
        seconds: float,
        bytes_in: int,
        bytes_out: int,
        error: str,
    ) -> None:
        """All names come from the configuration or match the contract's patterns: none needs escaping."""
        line = (route, credential, account, method, status, seconds * 1000, bytes_in, bytes_out, error)
        self._lines.append(self._line(time.time(), line))
        if len(self._lines) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            self._write("".join(lines))


_JSON: Final = (
    '{"ts":%.3f,"level":"info","event":"request","route":"%s","credential":"%s","account":"%s","method":"%s",'
    '"status":%d,"duration_ms":%.1f,"bytes_in":%d,"bytes_out":%d,"error":"%s"}\n'
)


_TEXT: Final = "%s request %s %s/%s %s %d in %.1f ms, %d bytes in, %d out %s\n"
Line = tuple[str, str, str, str, int, float, int, int, str]


def _json_line(ts: float, line: Line) -> str:
    return _JSON % (ts, *line)


def _text_line(ts: float, line: Line) -> str:
    return _TEXT % (time.strftime("%H:%M:%S", time.localtime(ts)), *line)
