"""Protect the files and the memory of this process from other users and processes."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # prctl(2)
PR_SET_DUMPABLE: Final = 4
PRIVATE: Final = 0o077


_found: int | None = None  # the umask that this process was started with


def keep_to_ourselves() -> None:
    """Set umask 0077, disable core dumps and, on Linux, attaching by processes of the same user."""
    global _found  # noqa: PLW0603 (one process, one umask)
    before = os.umask(PRIVATE)
    if _found is None:
        _found = before
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hide_memory()


def found_umask() -> int:
    """The umask for programs that are not ours, like a browser: that of the person."""
    return PRIVATE if _found is None else _found


def hide_memory() -> None:
    """On Linux: no attaching by processes of the same user. Another program in this process is not bound."""
    _prctl(PR_SET_DUMPABLE, 0)


def die_with_parent(number: signal.Signals) -> None:
    """On Linux: get this signal when the parent ends, even by SIGKILL."""
    _prctl(PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
