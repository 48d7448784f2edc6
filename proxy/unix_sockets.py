"""Unix sockets that listen: with their mode and group from the start, in the place of a dead one only."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

BACKLOG: Final = 1024  # connections that the kernel queues while the process is busy
LOCK_WAIT: Final = 2.0  # seconds; bind() takes a millisecond, and another program may keep the folder locked
PRIVATE: Final = 0o600  # the mode of a unix socket that only its owner can connect to
_UMASK: Final = threading.Lock()


def unix_socket(path: Path, mode: int = PRIVATE, group: int | None = None) -> socket.socket:
    """A socket that listens at `path`, with this mode and group from the start. Raises OSError.

    `group`: None for that of the process, which must be a member of any other.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _one_at_a_time(path.parent):
            _remove_if_dead(path)
            if mode == PRIVATE and group is None:
                _bind(sock, path)
                sock.listen(BACKLOG)  # at once: another process takes a socket that does not listen for dead
            else:
                _bind_shared(sock, path, mode, group)
    except OSError:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, path: Path) -> None:
    """So that the file has mode 0600 from the start. All threads share the umask: it differs for one call."""
    with _UMASK:
        before = os.umask(0o777 & ~PRIVATE)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)


def _bind_shared(sock: socket.socket, path: Path, mode: int, group: int | None) -> None:
    """Bind under another name, and give the file its own name once it has its mode and group.

    So nobody ever sees it with others. A link, as renaming it would replace a file that has this name.
    """
    draft = path.with_name(f".{secrets.token_hex(4)}")
    _bind(sock, draft)
    try:
        sock.listen(BACKLOG)
        if group is not None:  # a service may be forbidden the call
            os.chown(draft, -1, group)
        draft.chmod(mode)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
    finally:
        draft.unlink()


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Of two processes that find one dead socket, the second must not remove the first one's new socket.

    Best effort: where the folder can't be locked within LOCK_WAIT, it goes on without.
    """
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # bind() will say what is wrong, or it can be written but not read
        yield
        return
    try:
        _lock(lock)
        yield
    finally:
        os.close(lock)


def _lock(lock: int) -> None:
    end = time.monotonic() + LOCK_WAIT
    while time.monotonic() < end:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.01)
        else:
            return


def _remove_if_dead(path: Path) -> None:
    """Remove a socket file left behind by a killed process: nothing accepts connections there."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
