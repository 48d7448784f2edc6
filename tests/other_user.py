"""A second user of this machine, for tests that run as root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

STRANGER = 54321  # without a name


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Be this user for a moment: TCP sockets made meanwhile, and unix sockets connected meanwhile, are
    this user's for good. It may not be able to read a module of ours: import before.
    """
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
