"""Callers that have asked once and stay: what does a proxy keep for each?"""

from __future__ import annotations

import contextlib
import resource
import select
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from rows import MeasureError

WANTED = 10_000
MOST_FILES = 65_536  # more would only make programs lay out larger tables
# A proxy may hold a second connection for each (mitmproxy does), and needs some files for itself.
SHARE = 0.45


def raise_file_limit() -> None:
    """For us, and for all that we start."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def possible() -> int:
    return min(WANTED, int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * SHARE))


@contextlib.contextmanager
def callers(url: str, count: int, seconds: float) -> Iterator[list[HTTPConnection]]:
    """Up to `count` idle connections, as many as can be opened one after the other in `seconds`."""
    parts = urlsplit(url)
    opened: list[HTTPConnection] = []
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as at_end:
        while len(opened) < count and time.monotonic() < end:
            connection = HTTPConnection(parts.hostname or "", parts.port, timeout=5)
            at_end.callback(connection.close)
            opened.append(connection)
            try:
                connection.request("GET", parts.path)
                answer = connection.getresponse()
                answer.read()
            except (OSError, HTTPException) as error:
                raise MeasureError(f"caller {len(opened)}: {error}") from error
            if answer.status != 200:
                raise MeasureError(f"caller {len(opened)} got {answer.status}")
        yield opened


def alive(opened: list[HTTPConnection]) -> int:
    """How many the proxy has not closed: nothing can be read from those, not even an end."""
    poll = select.poll()
    for connection in opened:
        if connection.sock:  # None: the answer said that this connection ends
            poll.register(connection.sock, select.POLLIN)
    return sum(connection.sock is not None for connection in opened) - len(poll.poll(0))
