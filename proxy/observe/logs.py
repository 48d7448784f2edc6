"""Log lines on stderr: JSON for machines, plain text on a terminal.

Request lines bypass `logging` (`RequestLog`): building a logging record costs more than relaying the
request. They are collected and written a few times a second. No line has a query string, a field value or
a token: lines consist of names from the configuration, numbers, and our own sentences.

A server writes from a thread of its own (`own_thread`), so that a stalled reader of stderr does not block it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from proxy import tasks
from proxy.errors import Fault, ProxyError
from proxy.observe.events import fields_of
from proxy.observe.log_writer import PIPE_BUF, LogWriter

if TYPE_CHECKING:
    import asyncio

    from proxy.config.model import Log

EVENT_FIELDS: Final = ("credential", "account", "login_url", "route", "reason", "signal", "listen", "version")
NOTICE: Final = "notice"  # the default event
FLUSH_AT: Final = 64  # lines; more are written at once, fewer at the next sweep of the relay

_log = logging.getLogger("proxy.loop")
_config_log = logging.getLogger("proxy.config")
_writer: LogWriter | None = None  # of this process, as stderr is


def write(text: str) -> None:
    """Write whole lines to stderr. Those that stderr does not accept are lost: the proxy goes on."""
    if _writer is not None:
        _writer.write(text)
    elif sys.stderr is not None:
        with suppress(OSError, ValueError):  # closed, its reader is gone, or its disk is full
            sys.stderr.write(text)


def lines_dropped() -> int:
    """The number of lines that could not be written to stderr."""
    return _writer.dropped if _writer is not None else 0


@contextmanager
def own_thread(log: Log) -> Iterator[None]:
    """Within the block, logging never waits for stderr; its end waits for DRAIN_TIME at most."""
    global _writer  # noqa: PLW0603 (one stderr, one writer)
    try:
        fd = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or not a file
        yield
        return
    refusal = _json_dropped if wants_json(log) else _text_dropped
    writer = _writer = LogWriter(fd, lambda count: refusal(time.time(), count))
    hook, sys.unraisablehook = sys.unraisablehook, _on_unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if writer.close():
            _writer = None  # else stderr stalls, and a direct write would hang


def warn(faults: Iterable[Fault], filename: str) -> None:
    """Log warnings about the configuration, a line each, without the quoted line of the file."""
    for fault in faults:
        _config_log.warning("%s", replace(fault, source="").render(filename))


def _on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """As `on_loop_exception`, for an exception in a destructor; Python's own hook writes to stderr."""
    _log.error("in a destructor", exc_info=unraisable.exc_value)


def failure_text(error: BaseException) -> str:
    """A traceback with the messages of our own errors and the system's only.

    The message of a library's error may contain what was sent: aiohttp's shows header fields.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    said = f": {error}" if isinstance(error, ProxyError | OSError) else ""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    before = f"{failure_text(cause)}\nthen " if cause is not None else ""
    return f"{before}{type(error).__qualname__}{said}\n{frames}".rstrip()


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802 (the name that logging calls)
        return failure_text(ei[1]) if ei[1] is not None else ""


class JsonFormatter(_Formatter):
    """One object per line: ts, level, event, then the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", NOTICE),
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in EVENT_FIELDS if hasattr(record, name)}
        line |= fields_of(record)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        text = json.dumps(line)
        excess = len(text) + 1 - PIPE_BUF  # a longer line may be mixed with another process's
        if excess > 0 and record.exc_info:
            line["error"] = _without_middle(line["error"], excess)
            text = json.dumps(line)
        return text


def _without_middle(text: str, excess: int) -> str:
    """`text` shortened by `excess` characters or more: the ends of a traceback matter most."""
    kept = max(0, len(text) - excess - len(_CUT))
    return text[: kept // 2] + _CUT + text[len(text) - (kept - kept // 2) :]


_CUT: Final = "\n[...]\n"


class TextFormatter(_Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")


class CommandFormatter(logging.Formatter):
    """As cli.py prints errors, without tracebacks: for the user of a command."""

    def __init__(self) -> None:
        super().__init__("token-proxy: %(message)s")

    def formatException(self, ei: Any) -> str:  # noqa: ARG002, N802 (the signature that logging calls)
        return ""


class _Handler(logging.Handler):
    """To stderr, by `write`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 (arguments that do not match the format must not raise)
            tasks.internal_errors["log"] += 1
            record.msg, record.args = "this line can't be formatted: %s", (type(error).__name__,)
            record.exc_info = None
            text = self.format(record)
        write(text + "\n")


def wants_json(log: Log) -> bool:
    return log.format == "json" or (log.format == "auto" and not sys.stderr.isatty())


def set_up(log: Log) -> None:
    """The log of a server, as configured."""
    _send(JsonFormatter() if wants_json(log) else TextFormatter(), log.level.upper())


def set_up_command(*, debug: bool) -> None:
    """The log of a command: its last message has the outcome, so a failed refresh is not logged."""
    if debug:
        _send(TextFormatter(), "DEBUG")
    else:
        _send(CommandFormatter(), "ERROR", logins="WARNING")


def _send(formatter: logging.Formatter, level: str, logins: str = "NOTSET") -> None:
    """Everything goes to stderr; libraries log little, as their messages may contain what was sent."""
    handler = _Handler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    for name, least in (("root", "WARNING"), ("proxy", level), ("proxy.logins", logins), *_LIBRARIES):
        logging.getLogger(name).setLevel(least)


_LIBRARIES: Final = (
    ("authlib", "INFO"),  # its debug lines show whole tokens
    ("aiohttp", "CRITICAL"),  # its messages repeat what was sent; its errors reach us as exceptions
    ("asyncio", "CRITICAL"),
)


def on_loop_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`. The message of a failed callback contains its arguments."""
    error = context.get("exception")
    said = context["message"] if error is None else "a callback failed"
    tasks.internal_errors["callback"] += 1
    _log.error("in the event loop: %s", said, exc_info=error)


class RequestLine(NamedTuple):
    """A request, as logged. All names are of the configuration or match its patterns: none needs escaping."""

    route: str
    credential: str
    account: str
    caller: str  # empty where callers are not identified
    method: str
    status: int
    milliseconds: float
    bytes_in: int
    bytes_out: int
    error: str


class RequestLog:
    """Writes a line for each routed request, and counts the others by the reason of their refusal.

    `enabled` is false above level info: requests then cost nothing.
    """

    def __init__(self, log: Log, output: Callable[[str], object] = write) -> None:
        self._write = output
        self._lines: list[str] = []
        self._refused: Counter[str] = Counter()
        self.use(log)

    def use(self, log: Log) -> None:
        """Use another level and format from now on."""
        self.enabled = log.level in {"debug", "info"}
        self._logs_refusals = log.level != "error"
        self._line, self._refusal = (
            (_json_line, _json_refusal) if wants_json(log) else (_text_line, _text_refusal)
        )

    def add(self, line: RequestLine) -> None:
        self._lines.append(self._line(time.time(), line))
        if len(self._lines) >= FLUSH_AT:
            self.flush()

    def refused(self, reason: str) -> None:
        """A request without a route was refused: one line per flush and reason."""
        if self._logs_refusals:
            self._refused[reason] += 1

    def flush(self) -> None:
        if self._refused:
            now = time.time()
            self._lines += [self._refusal(now, reason, count) for reason, count in self._refused.items()]
            self._refused.clear()
        if not self._lines:
            return
        text = "".join(self._lines)
        self._lines.clear()
        self._write(text)


_JSON: Final = (
    '{"ts":%.3f,"level":"info","event":"request","route":"%s","credential":"%s","account":"%s","caller":"%s",'
    '"method":"%s","status":%d,"duration_ms":%.1f,"bytes_in":%d,"bytes_out":%d,"error":"%s"}\n'
)
_JSON_REFUSAL: Final = '{"ts":%.3f,"level":"warning","event":"refused","reason":"%s","count":%d}\n'
_TEXT: Final = "%s INFO    request %s %s/%s%s %s %d in %.1f ms, %d bytes in, %d out %s\n"
_TEXT_REFUSAL: Final = "%s WARNING refused %s, %d times\n"
_JSON_DROPPED: Final = '{"ts":%.3f,"level":"warning","event":"log_lines_dropped","count":%d}\n'
_TEXT_DROPPED: Final = "%s WARNING %d log lines were dropped: they could not be written to stderr\n"


def _json_line(now: float, line: RequestLine) -> str:
    return _JSON % (now, *line)


def _text_line(now: float, line: RequestLine) -> str:
    route, credential, account, caller, *rest = line
    return _TEXT % (_time_of_day(now), route, credential, account, caller and f" for {caller}", *rest)


def _json_refusal(now: float, reason: str, count: int) -> str:
    return _JSON_REFUSAL % (now, reason, count)


def _text_refusal(now: float, reason: str, count: int) -> str:
    return _TEXT_REFUSAL % (_time_of_day(now), reason, count)


def _json_dropped(now: float, count: int) -> str:
    return _JSON_DROPPED % (now, count)


def _text_dropped(now: float, count: int) -> str:
    return _TEXT_DROPPED % (_time_of_day(now), count)


def _time_of_day(now: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(now))
