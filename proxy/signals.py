"""The signals of a serving process: SIGTERM and SIGINT stop it, SIGHUP reloads its configuration."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Final

from proxy.hooks import Hooks, call

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
SAME_SIGNAL: Final = 0.3  # seconds; a supervisor may send a signal twice: to the group and to each process

_log = logging.getLogger("proxy.process")


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT stop gracefully; a second one, later than SAME_SIGNAL, ends the process at once."""
    loop = asyncio.get_running_loop()
    first = asyncio.Event()  # not `stop`: that may be set by /quitquitquit, which is no signal

    def on_signal(number: signal.Signals) -> None:
        if first.is_set():
            return
        first.set()
        _log.info("stopping on %s", number.name, extra={"event": "stop", "signal": number.name})
        stop.set()
        loop.call_later(SAME_SIGNAL, _die_of_signals, loop)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)


def reload_on_hangup(wanted: asyncio.Event, stop: asyncio.Event, hooks: Hooks) -> None:
    """SIGHUP reloads. But where the terminal that the process was started from is gone, it stops."""
    has_terminal = _has_terminal()

    def on_hangup() -> None:
        if has_terminal and not _has_terminal():
            _log.info("stopping as the terminal is gone", extra={"event": "stop", "signal": "SIGHUP"})
            stop.set()
            return
        call(hooks.hangup)
        wanted.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)


def _has_terminal() -> bool:
    try:
        return os.isatty(sys.__stderr__.fileno()) if sys.__stderr__ is not None else False
    except (OSError, ValueError):  # closed
        return False


def _die_of_signals(loop: asyncio.AbstractEventLoop) -> None:
    for number in STOP_SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
