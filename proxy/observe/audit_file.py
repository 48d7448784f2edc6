"""The file of the audit log: lines are written by a thread of its own, and kept while they can't be.

    event loop ──► queue (bounded) ──► thread ──► write(2), in the order of the lines

While the disk is full, or the file can't be opened, the thread tries again every RETRY seconds: no line is
lost before the queue is full. Then further lines are dropped and counted, and the number is a line of the
log as soon as it can be written. `reopen` makes the thread open the path anew, for logrotate: lines go to the
file that was renamed until the new one is open. After a failure within a line, the rest of it follows; in
another file all of it is written.

What is queued is lost if the process is killed: nothing is synced to the disk, as with any log.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from proxy.observe.events import ERROR, INFO, event
from proxy.observe.log_writer import LARGEST_WRITE, PIPE_BUF, pieces, wait_until_writable

STDOUT: Final = Path("-")
QUEUE: Final = 8 * 2**20  # bytes; some 20 000 requests
REFUSE_AT: Final = 2**20  # bytes; the rest of the queue is for the requests in flight
RETRY: Final = 0.5  # seconds
STALLED: Final = 5.0  # seconds that one write may take until requests are refused: a hung network disk
TELL_EVERY: Final = 60.0  # seconds between two lines about failures in the other log
CLOSE_TIME: Final = 3.0  # seconds at the end of the process to write what is queued
PRIVATE: Final = 0o600

_log = logging.getLogger("proxy.audit")


class AuditFile:
    """`path`: STDOUT for the standard output. Public methods are for the event loop, and never block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0  # lines
        self.failures = 0  # attempts to open or write that failed
        self.dropped = 0  # lines
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._size = 0  # bytes in the queue, and in the thread's hands
        self._failing = False  # since the last attempt
        self._writing_since = 0.0  # time.monotonic; 0: not now
        self._reopen = True  # it is opened at once: else the first request would find out
        self._closed = False
        self._fd = -1
        self._most = LARGEST_WRITE  # bytes
        self._sent = 0  # bytes of the first line that failed
        self._untold = 0  # dropped lines that are not in the log yet
        self._told_at = 0.0
        # a daemon: a hanging write must not delay the exit of the process
        self._thread = threading.Thread(target=self._run, name="audit log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue a line, which ends in a line feed."""
        with self._changed:
            if self._closed or self._size + len(line) > QUEUE:
                self.dropped += 1
                self._untold += 1
                return
            self._size += len(line)
            self._queue.append(line)
            self._changed.notify()

    @property
    def accepts(self) -> bool:
        """Whether lines are being written, as far as is known: the last attempt did not fail or hang."""
        since = self._writing_since
        is_stalled = since > 0 and time.monotonic() - since > STALLED
        return not self._failing and self._size < REFUSE_AT and not is_stalled

    def reopen(self) -> None:
        """Open the path again before the next line: its file was renamed."""
        with self._changed:
            self._reopen = True
            self._changed.notify()

    def close(self, seconds: float = CLOSE_TIME) -> bool:
        """Write what is queued, for at most `seconds`. Returns whether all of it was written."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive() and not self._size

    # -- the thread

    def _run(self) -> None:
        data = b""  # whole lines; `_sent` bytes of the first are written
        while True:
            with self._changed:
                while not (self._queue or data or self._reopen or self._closed or self._untold):
                    self._changed.wait()
                data += b"".join(self._queue)
                self._queue.clear()
                is_last, reopen, self._reopen = self._closed, self._reopen, False
                if self._untold and not data:
                    data, self._untold = _dropped_line(self._untold), 0
                    self._size += len(data)
            data = self._attempt(data, reopen=reopen)
            if is_last and (self._failing or not (data or self._untold)):
                break
            if self._failing or self._reopen:
                self._pause()
        if self._fd >= 0:
            os.close(self._fd)

    def _attempt(self, data: bytes, *, reopen: bool) -> bytes:
        """Write `data`; returns the part that could not be written, from the beginning of a line on."""
        at = 0
        try:
            if reopen or self._fd < 0:
                self._open()
            for piece in pieces(data, self._most):
                self._write(piece)
                at += len(piece)
        except OSError as error:
            self._failed(error)
            lines = data.rfind(b"\n", at, at + self._sent) + 1
            if lines > at:
                self._sent -= lines - at
                self._done(data[at:lines])
                at = lines
            return data[at:]
        if self._failing:
            self._failing, self._told_at = False, 0.0
            event(_log, INFO, "audit_recovered", "the audit log can be written again")
        return b""

    def _open(self) -> None:
        """Raises OSError if there is no file at all: else the former one goes on, and this is tried again."""
        try:
            fd = open_audit_file(self.path)
        except OSError as error:
            if self._fd < 0:
                raise
            self._reopen = True
            self._count_failure(error)
            return
        mode = os.fstat(fd).st_mode
        self._most = PIPE_BUF if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else LARGEST_WRITE
        former, self._fd, self._sent = self._fd, fd, 0
        if former >= 0:
            os.close(former)

    def _write(self, piece: bytes) -> None:
        """Write whole lines; after a failure, what is left of them. Raises OSError."""
        self._writing_since = time.monotonic()
        try:
            while self._sent < len(piece):
                try:
                    self._sent += os.write(self._fd, memoryview(piece)[self._sent :])
                except BlockingIOError:
                    wait_until_writable(self._fd)
        finally:
            self._writing_since = 0.0
        self._sent = 0
        self._done(piece)

    def _done(self, lines: bytes) -> None:
        with self._changed:
            self._size -= len(lines)
            self.written += lines.count(b"\n")

    def _failed(self, error: OSError) -> None:
        self._failing = True
        self._count_failure(error)

    def _count_failure(self, error: OSError) -> None:
        self.failures += 1
        now = time.monotonic()
        if self._told_at and now < self._told_at + TELL_EVERY:
            return
        self._told_at = now
        cause = os.strerror(error.errno) if error.errno else "unknown error"
        said = "the audit log %s can't be opened or written: %s; it is tried again"
        event(_log, ERROR, "audit_failed", said, self.path, cause, cause=cause, file=str(self.path))

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, RETRY)


def open_audit_file(path: Path) -> int:
    """Open to append. A regular file is the owner's alone; a FIFO is not waited for. Raises OSError."""
    if path == STDOUT:
        return os.dup(1)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    fd = os.open(path, flags, PRIVATE)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode) and stat.S_IMODE(mode) & ~PRIVATE:
            with suppress(PermissionError):  # another user's file
                os.fchmod(fd, PRIVATE)
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _dropped_line(count: int) -> bytes:
    line = {"ts": round(time.time(), 3), "event": "audit_lines_dropped", "count": count}
    return json.dumps(line).encode() + b"\n"
