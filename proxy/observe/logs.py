"""Log lines on stderr: JSON for machines, plain text on a terminal.

The lines of requests are request_log.py's. No line has a query string, a field value or a token: lines
consist of names from the configuration, numbers, and our own sentences.

A server writes from a thread of its own (`own_thread`), so that a stalled reader of stderr does not block it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakSet

from proxy import tasks
from proxy.errors import Fault, ProxyError
from proxy.observe.events import event, fields_of
from proxy.observe.log_writer import PIPE_BUF, LogWriter

if TYPE_CHECKING:
    import asyncio

    from proxy.config.model import Log

EVENT_FIELDS: Final = (
    "credential",
    "account",
    "login_url",
    "route",
    "reason",
    "signal",
    "listen",
    "version",
    "error",
    "cause",
    "peer",
    "suppressed",
)
NOTICE: Final = "notice"  # the default event

_log = logging.getLogger("proxy.loop")
_config_log = logging.getLogger("proxy.config")
_writer: LogWriter | None = None  # of this process, as stderr is
_debug = False  # --debug: more than the configured level


class Pending(Protocol):
    """Lines that are written later, but before any newer line."""

    def flush_before(self) -> None: ...


pending: Final[WeakSet[Pending]] = WeakSet()


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
        sentence = replace(fault, source="").render(filename)
        event(_config_log, logging.WARNING, "config_warning", sentence)


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
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt=_DATE)


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
        for lines in pending:
            lines.flush_before()
        write(text + "\n")


def wants_json(log: Log) -> bool:
    return log.format == "json" or (log.format == "auto" and not sys.stderr.isatty())


def level_of(log: Log) -> str:
    """The level in effect: as configured, or debug by the command's option."""
    return "debug" if _debug else log.level


def set_up(log: Log) -> None:
    """The log of a server, as configured."""
    _send(JsonFormatter() if wants_json(log) else TextFormatter(), level_of(log).upper())


def set_up_command(*, debug: bool) -> None:
    """The log of a command: its last message has the outcome, so a failed refresh is not logged.

    `debug` outlasts a `set_up`.
    """
    global _debug  # noqa: PLW0603 (one command, one log)
    _debug = debug
    if debug:
        _send(TextFormatter(), "DEBUG")
    else:
        _send(CommandFormatter(), "ERROR", logins="WARNING")


def _send(formatter: logging.Formatter, level: str, logins: str = "NOTSET") -> None:
    """Everything goes to stderr; libraries log little, as their messages may contain what was sent."""
    handler = _Handler()
    handler.setFormatter(formatter)
    handler.setLevel(level if logins == "NOTSET" else logins)  # loggers may have more for the audit log
    root = logging.getLogger()
    root.handlers[:] = [handler]
    ours = (("proxy", level), ("proxy.logins", logins), ("proxy.store.upgrade", logins))
    for name, least in (("root", "WARNING"), *ours, *_LIBRARIES):
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


_JSON_DROPPED: Final = (
    '{"ts": %.3f, "level": "warning", "event": "log_lines_dropped", "message": "log lines were dropped", '
    '"count": %d}\n'
)
_TEXT_DROPPED: Final = "%s WARNING %d log lines were dropped: they could not be written to stderr\n"


def _json_dropped(now: float, count: int) -> str:
    return _JSON_DROPPED % (now, count)


def _text_dropped(now: float, count: int) -> str:
    return _TEXT_DROPPED % (clock_time(now), count)


_DATE: Final = "%Y-%m-%d %H:%M:%S"


@lru_cache(maxsize=2)
def _clock_time(second: int) -> str:
    return time.strftime(_DATE, time.localtime(second))


def clock_time(now: float) -> str:
    """As people read it, in local time."""
    return _clock_time(int(now))
