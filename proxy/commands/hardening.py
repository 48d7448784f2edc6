"""Protect the files and the memory of this process from other users and processes."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from typing import Final

PR_SET_DUMPABLE: Final = 4  # prctl(2)


def keep_to_ourselves() -> None:
    """Set umask 0077, disable core dumps and, on Linux, attaching by processes of the same user."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
