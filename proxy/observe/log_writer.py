"""Writes log lines from a thread of its own, so that a reader of stderr that stalls blocks nothing else.

    event loop ──► queue (bounded) ──► thread ──► write(2)

Lines are dropped while the queue is full or the file accepts none (closed pipe, full disk, EIO). They are
counted, and one line reports their number as soon as lines can be written again.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

QUEUE: Final = 2**20  # characters; some 4000 requests: nothing is lost if a reader stalls for a second
PIPE_BUF: Final = 4096  # bytes; the largest write that is atomic on a pipe shared by several processes
LARGEST_WRITE: Final = 2**16  # bytes, to a file or a terminal
DRAIN_TIME: Final = 1.0  # seconds at the end of the process to write what is queued


class LogWriter:
    """Writes to the file descriptor `fd`. `dropped_line(n)` makes the line that reports n lost lines."""

    def __init__(self, fd: int, dropped_line: Callable[[int], str]) -> None:
        self._fd = fd
        self._most = _most_at_once(fd)
        self._dropped_line = dropped_line
        self._queue: deque[str] = deque()
        self._size = 0  # characters in the queue, and being written by the thread
        self._closed = False
        self._changed = threading.Condition()  # reentrant: a destructor may log
        self._untold = 0  # lines dropped and not yet reported
        self._broken_off = False  # the last write ended within a line
        self.dropped = 0  # lines, in all
        # a daemon: a hanging write must not delay the exit of the process
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Queue whole lines. Never waits for the file."""
        with self._changed:
            if self._closed or self._size + len(text) > QUEUE:
                self._drop(text.count("\n"))
                return
            self._size += len(text)
            self._queue.append(text)
            self._changed.notify()

    def close(self, seconds: float = DRAIN_TIME) -> bool:
        """Write what is queued, for at most `seconds`. Returns whether all of it was written."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                text = "".join(self._queue)
                self._queue.clear()
                if not text:
                    return  # closed, and everything is written
            lost = sum(map(self._write_piece, pieces(text.encode("utf-8", "backslashreplace"), self._most)))
            with self._changed:
                self._size -= len(text)
                self._drop(lost)
                untold = self._untold
            if untold and not self._write_piece(self._dropped_line(untold).encode()):
                with self._changed:
                    self._untold -= untold

    def _write_piece(self, piece: bytes) -> int:
        """Returns how many of its lines are lost."""
        rest = memoryview(b"\n" + piece if self._broken_off else piece)
        whole = len(rest)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                wait_until_writable(self._fd)
            except OSError:
                self._broken_off = self._broken_off or len(rest) < whole
                return bytes(rest[-len(piece) :]).count(b"\n")
        self._broken_off = False
        return 0

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._untold += lines


def pieces(data: bytes, most: int) -> Iterator[bytes]:
    """Whole lines, as many in a piece as fit into `most` bytes; a longer line is a piece by itself."""
    start = 0
    while start < len(data):
        end = len(data)
        if end - start > most:
            border = data.rfind(b"\n", start, start + most)
            end = (border if border >= 0 else data.find(b"\n", start)) + 1 or len(data)
        yield data[start:end]
        start = end


def _most_at_once(fd: int) -> int:
    mode = os.fstat(fd).st_mode
    return PIPE_BUF if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else LARGEST_WRITE


def wait_until_writable(fd: int) -> None:
    """Another program that shares the file made it non-blocking."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    with suppress(OSError):
        poll.poll()
