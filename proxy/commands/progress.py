"""A line on a terminal that says what is waited for, and for how much longer."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Final, TextIO

from proxy import tasks

EVERY: Final = 0.25  # seconds between two frames
_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_FRAMES: Final = "|/-\\"
_CLEAR: Final = "\r\x1b[K"

Say = Callable[[str], object]


def terminal(*streams: TextIO | None) -> TextIO | None:
    """The first of `streams` (default: stdout, stderr) that is a terminal on which a line can be redrawn."""
    if os.environ.get("TERM", "dumb") == "dumb":
        return None
    found = (each for each in streams or (sys.stdout, sys.stderr) if each is not None and each.isatty())
    return next(found, None)


class Progress:
    """The line. It is hidden while other text is written or typed."""

    def __init__(self, text: str, seconds: float, stream: TextIO | None) -> None:
        self._text = text
        self._end = time.monotonic() + seconds
        self._stream = stream
        self._frames = cycle(_FRAMES if _has_frames(stream) else _PLAIN_FRAMES)
        self._hidden = False

    def describe(self, text: str) -> None:
        self._text = text

    def hide(self) -> None:
        self._hidden = True
        self._write("")

    def show(self) -> None:
        self._hidden = False

    def above(self, say: Say) -> Say:
        """`say`, for lines above this one."""

        def said(line: str) -> None:
            self._write("")
            say(line)

        return said

    async def keep_drawing(self) -> None:
        while True:
            if not self._hidden:
                self._write(_fitting(f"{next(self._frames)} {self._text}, {_left(self._end)} left"))
            await asyncio.sleep(EVERY)

    def _write(self, line: str) -> None:
        if self._stream is not None:
            self._stream.write(_CLEAR + line)
            self._stream.flush()


@asynccontextmanager
async def progress(text: str, seconds: float, stream: TextIO | None) -> AsyncIterator[Progress]:
    """Show the line within the block. Without a terminal nothing is shown."""
    shown = Progress(text, seconds, stream)
    if stream is None:
        yield shown
        return
    drawing = tasks.spawn(shown.keep_drawing(), "progress")
    try:
        yield shown
    finally:
        await tasks.cancel(drawing)
        shown.hide()


def _left(end: float) -> str:
    minutes, seconds = divmod(max(0, int(end - time.monotonic())), 60)
    return f"{minutes}:{seconds:02}"


def _fitting(line: str) -> str:
    """A line that wrapped could not be redrawn."""
    return line[: shutil.get_terminal_size().columns - 1]


def _has_frames(stream: TextIO | None) -> bool:
    try:
        _FRAMES.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
