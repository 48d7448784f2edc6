"""The program that `exec` starts beside a server of its own.

Its process is forked before this one becomes a server, and waits for its environment: so it has the umask,
limits, signals and files that `exec` itself was started with, and no thread exists yet. It stays in the
process group of `exec`: the terminal's signals reach it without us.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from proxy.commands import hardening

CANNOT_EXECUTE: Final = 126  # as shells report it
NOT_FOUND: Final = 127
BY_SIGNAL: Final = 128  # plus the signal's number
FORWARDED: Final = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)
_IGNORED_BY_PYTHON: Final = ("SIGPIPE", "SIGXFZ", "SIGXFSZ")  # as subprocess restores them
_TELLS_SENDER: Final = hasattr(signal, "sigwaitinfo")  # not on macOS
_ERRORS: Final = {
    errno.ENOENT: "command not found",
    errno.ENOEXEC: "it is no program: expected a first line like #!/bin/sh",
}


def replace_process(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Become the command. Returns an exit code if that is impossible, and says why on stderr."""
    for name in _IGNORED_BY_PYTHON:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), dict(environ))  # noqa: S606 (that is what `exec` is for)
    except (OSError, ValueError) as error:  # ValueError: an empty name
        number = error.errno if isinstance(error, OSError) else errno.ENOENT
    reason = _ERRORS.get(number or 0) or os.strerror(number or 0).lower()
    with suppress(OSError):
        os.write(2, f"token-proxy: {command[0]}: {reason}\n".encode(errors="surrogateescape"))
    return NOT_FOUND if number in {errno.ENOENT, errno.ENOTDIR} else CANNOT_EXECUTE


class Child:
    """A forked process that becomes the command once it has its environment."""

    def __init__(self, command: Sequence[str]) -> None:
        """Fork, and from then on hold back the signals of FORWARDED. In a process with one thread."""
        ours = os.getpid()
        receive, self._send = (_above_standard(fd) for fd in os.pipe())
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._send)
            _launch(command, receive, ours)
        os.close(receive)
        self._lock = threading.Lock()
        self._code: int | None = None
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, the system would forget the exit code
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)

    def start(self, environ: Mapping[str, str]) -> None:
        """Let it become the command. It may have been killed before."""
        with suppress(BrokenPipeError), os.fdopen(self._send, "w", encoding="ascii") as pipe:
            json.dump(dict(environ), pipe)

    def watch(self, ended: Callable[[int], object]) -> None:
        """Forward signals, and call `ended` with the exit code: in threads of their own."""
        threading.Thread(target=self._wait, args=(ended,), name="wait for the command", daemon=True).start()
        threading.Thread(target=self._forward, name="forward signals", daemon=True).start()

    def _wait(self, ended: Callable[[int], object]) -> None:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:  # from here on its number may be another process's
            _, status = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self._code = code if code >= 0 else BY_SIGNAL - code
        ended(self._code)

    def _forward(self) -> None:
        while True:
            number, is_for_group = _next_signal()
            with self._lock:
                if self._code is not None:  # the server is stopping: a signal ends it at once
                    os._exit(self._code)
                if not (is_for_group and _is_in_our_group(self.pid)):
                    with suppress(OSError):  # it has become another user's
                        os.kill(self.pid, number)


def keep_stderr_only() -> None:
    """Let go of stdin, stdout and the files that were passed to `exec`: they are the command's.

    Otherwise the end of the command's output would be seen only at ours.
    """
    nothing = _above_standard(os.open(os.devnull, os.O_RDWR))
    for fd in (0, 1) if _is_open(2) else (0, 1, 2):  # libuv aborts where it gets one of these for a socket
        os.dup2(nothing, fd)
    os.close(nothing)
    for fd in _open_files():
        with suppress(OSError):
            if fd > 2 and os.get_inheritable(fd):
                os.close(fd)


def _above_standard(fd: int) -> int:
    """The file under a number above stderr's, as `exec` may have been started without the first three."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _open_files() -> list[int]:
    with suppress(OSError):
        return [int(each.name) for each in Path("/dev/fd").iterdir()]
    return []


def _launch(command: Sequence[str], receive: int, parent: int) -> NoReturn:
    """The forked process. It must not return: all that is above belongs to its parent."""
    code = CANNOT_EXECUTE
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        with os.fdopen(receive, encoding="ascii") as pipe:
            text = pipe.read()
        hardening.die_with_parent(signal.SIGTERM)
        if text and os.getppid() == parent:
            code = replace_process(command, json.loads(text))
    finally:
        os._exit(code)


def _next_signal() -> tuple[int, bool]:
    """The next of FORWARDED, and whether the terminal has sent it: then to the whole process group."""
    if _TELLS_SENDER:
        info = signal.sigwaitinfo(FORWARDED)
        return info.si_signo, info.si_code > 0  # SI_KERNEL; those of processes are zero or less
    number = signal.sigwait(FORWARDED)
    return number, number in {signal.SIGINT, signal.SIGQUIT} and _has_terminal()


def _has_terminal() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _is_in_our_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == os.getpgrp()
    except OSError:
        return False
