"""The lines of stdin as they arrive, of any length on a terminal too.

A terminal in canonical mode cuts a line at 4095 characters (1024 on macOS) without saying so, and redirect
URLs can be longer. So that mode is switched off while a line is awaited, and lines are edited here.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

LONGEST: Final = 1 << 20  # bytes of a line; what exceeds it is no URL, and is dropped
_AT_ONCE: Final = 65536  # bytes
_ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # SIGINT becomes KeyboardInterrupt
_KEYS: Final = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO?.|[\r\n]|[\x08\x7f]|\x15|\x04|[\x00-\x1f]|[^\x00-\x1f\x7f]+", re.DOTALL
)
_LAST_CHARACTER: Final = re.compile(rb"[\x00-\x7f\xc0-\xff]?[\x80-\xbf]*\Z")  # in UTF-8, complete or not

Typed = Callable[[bool], object]


class Line:
    """A line that is being typed. Pure: returns what to echo, and the finished lines."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.has_ended = False  # by Ctrl-D on an empty line

    @property
    def is_empty(self) -> bool:
        return not self._bytes

    def take(self, data: bytes) -> tuple[bytes, list[str]]:
        """Keys that were typed or pasted. An escape sequence must come whole: terminals send it at once."""
        echo, lines = bytearray(), []
        for key in _KEYS.findall(data):
            if key in b"\r\n":
                lines.append(self._bytes.decode(errors="replace") + "\n")
                self._bytes.clear()
                echo += b"\n"
            elif key in b"\x08\x7f":
                echo += self._erase()
            elif key == b"\x15":  # Ctrl-U
                echo += b"" if self.is_empty else b"\n"
                self._bytes.clear()
            elif key == b"\x04":
                self.has_ended = self.has_ended or self.is_empty
            elif key[0] >= 0x20:
                kept = key[: LONGEST - len(self._bytes)]
                self._bytes += kept
                echo += kept
        return bytes(echo), lines

    def _erase(self) -> bytes:
        if self.is_empty:
            return b""
        del self._bytes[_last_character(self._bytes) :]
        return b"\b \b"


def _last_character(line: bytearray) -> int:
    found = _LAST_CHARACTER.search(line[-4:])
    assert found is not None
    return len(line) - max(1, len(found[0]))


@contextmanager
def lines_of_stdin(typing: Typed) -> Iterator[asyncio.Queue[str]]:
    """The lines within the block, then "". `typing`: called when a line on a terminal begins, and ends.

    The terminal's settings are restored at the end of the block, and if a signal ends the process.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()
    with _unlimited() as echoes:
        source: Iterator[Any] = _plain() if echoes is None else _keys()
        take: Callable[[Any], object] = lines.put_nowait
        if echoes is not None:
            take = partial(_type, Line(), lines, typing, echoes)

        def read() -> None:
            with suppress(RuntimeError):  # the command has ended meanwhile
                for each in source:
                    loop.call_soon_threadsafe(take, each)
                loop.call_soon_threadsafe(lines.put_nowait, "")

        threading.Thread(target=read, name="read stdin", daemon=True).start()
        yield lines


def _plain() -> Iterator[str]:
    """Not from sys.stdin, as the interpreter can't exit while a thread reads that.

    In the background there are none: reading a terminal would stop the process.
    """
    with suppress(OSError):
        if sys.stdin is not None and (not sys.stdin.isatty() or _is_in_foreground(sys.stdin.fileno())):
            with open(sys.stdin.fileno(), errors="replace", closefd=False) as stdin:
                yield from stdin


def _keys() -> Iterator[bytes]:
    with suppress(OSError):  # the terminal is gone
        while data := os.read(sys.stdin.fileno(), _AT_ONCE):
            yield data


def _type(line: Line, lines: asyncio.Queue[str], typing: Typed, echoes: bool, data: bytes) -> None:
    echo, finished = line.take(data)
    if echo and echoes:
        typing(True)
        _write_all(echo)
    for each in finished:
        lines.put_nowait(each)
    if line.has_ended:
        lines.put_nowait("")
    if line.is_empty:
        typing(False)


def _write_all(echo: bytes) -> None:
    output = next((each for each in (sys.stdout, sys.stderr) if each is not None and each.isatty()), None)
    if output is not None:
        output.flush()
        while echo:
            echo = echo[os.write(output.fileno(), echo) :]


@contextmanager
def _unlimited() -> Iterator[bool | None]:
    """Switch canonical mode off. Yields whether typed text is to be echoed, as the terminal did.

    Yields None where stdin is no terminal, or not ours to change.
    """
    try:
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        is_ours = _is_in_foreground(terminal)
    except (AttributeError, ValueError, OSError, termios.error):
        is_ours = False
    if not is_ours:
        yield None
        return
    changed = [*before]
    changed[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
    changed[6] = [*before[6]]
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    change = partial(_set, terminal, changed)
    restore = partial(_set, terminal, before)
    change()
    try:
        with _restored_by_signals(restore, change):
            yield bool(before[3] & termios.ECHO)
    finally:
        restore()


def _is_in_foreground(terminal: int) -> bool:
    """Raises OSError."""
    return os.tcgetpgrp(terminal) == os.getpgrp()


def _set(terminal: int, attributes: list[object]) -> None:
    """Not from the background: that would stop the process, and the settings are the shell's then."""
    with suppress(OSError, termios.error):  # it may be gone
        if _is_in_foreground(terminal):
            termios.tcsetattr(terminal, termios.TCSANOW, attributes)  # type: ignore[arg-type]


@contextmanager
def _restored_by_signals(restore: Callable[[], None], change: Callable[[], None]) -> Iterator[None]:
    def end(number: signal.Signals) -> None:
        restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def stop() -> None:  # by Ctrl-Z; goes on here
        restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        change()

    loop = asyncio.get_running_loop()
    for number in _ENDINGS:
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        for number in (*_ENDINGS, signal.SIGTSTP):
            loop.remove_signal_handler(number)
