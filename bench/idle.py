"""Idle callers that have made one request: how much memory does a proxy keep for each?"""

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
MOST_FILES = 65_536  # a higher limit only makes programs allocate larger tables
# A proxy may have a second connection for each (like mitmproxy), and needs some files for itself.
SHARE = 0.45


def raise_file_limit() -> None:
    """Set the limit of open files for this process and its children."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def possible() -> int:
    return min(WANTED, int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * SHARE))


@contextlib.contextmanager
def callers(url: str, count: int, seconds: float) -> Iterator[list[HTTPConnection]]:
    """Up to `count` idle connections, opened one after the other for at most `seconds`."""
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
    """The number of connections that the proxy has not closed, i.e. with nothing to read."""
    poll = select.poll()
    for connection in opened:
        if connection.sock:  # None: the response has closed the connection
            poll.register(connection.sock, select.POLLIN)
    return sum(connection.sock is not None for connection in opened) - len(poll.poll(0))
