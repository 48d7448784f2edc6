"""The control socket, state_dir/control.sock: where it is, and the requests of commands to the
running server.

Any program may have the admin listener's port. A socket in state_dir was made by our own user, or by root.
The server's side is admin/control.py. The standard library alone is used, so that `exec` starts fast.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NotRequired, TypedDict, cast

SOCKET: Final = "control.sock"
VERSION: Final = 1  # of the document
TIMEOUT: Final = 2.0  # seconds, for a whole response; for a server that is busy
LARGEST: Final = 4 * 1024 * 1024  # bytes, of a response
LONGEST: Final = 103 if sys.platform == "darwin" else 107  # bytes; sockaddr_un without its NUL


class RouteEntry(TypedDict):
    name: str
    variable: str  # Route.variable
    base_url: str | None  # None: on a unix socket


class ServerEntry(TypedDict):
    """The document of GET /server."""

    version: int
    token_proxy: str
    pid: int
    config: str | None  # the absolute path of the file; None: from the environment alone
    digest: str  # of the configuration: Config.digest
    routes: list[RouteEntry]
    hints: list[str]  # a sentence for each required account that can't serve
    started_at: NotRequired[float]  # Unix seconds; servers of older versions don't say


@contextmanager
def short_path(state_dir: Path) -> Iterator[Path]:
    """The socket's path within the length that a socket's address permits. Raises OSError.

    On Linux a longer one goes by an open file of its folder.
    """
    path = state_dir.absolute() / SOCKET
    if len(os.fsencode(path)) <= LONGEST:
        yield path
        return
    if sys.platform != "linux":
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{folder}") / SOCKET
    finally:
        os.close(folder)


def find_server(state_dir: Path) -> ServerEntry | None:
    """The server that has this state_dir, of any configuration; None if none responds."""
    body = ask(state_dir, "/server")
    return None if body is None else read_entry(body)


def ask(state_dir: Path, path: str) -> bytes | None:
    """The body of a response with status 200; None if there is none. Blocks for TIMEOUT at most."""
    with suppress(OSError, ValueError), short_path(state_dir) as place:
        if _is_trusted(place, state_dir):
            return _body(_exchange(place, b"GET %b HTTP/1.0\r\nHost: localhost\r\n\r\n" % path.encode()))
    return None


def _is_trusted(place: Path, state_dir: Path) -> bool:
    """Whether it is of our own user, of root, or of the owner of state_dir. Raises OSError."""
    return place.stat().st_uid in {0, os.geteuid(), state_dir.stat().st_uid}


def _exchange(place: Path, request: bytes) -> bytes:
    """Raises OSError, ValueError."""
    end = time.monotonic() + TIMEOUT
    response = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(str(place))
        sock.sendall(request)
        while data := sock.recv(65536):
            response += data
            left = end - time.monotonic()
            if left <= 0 or len(response) > LARGEST:
                raise ValueError("too slow, or too large")
            sock.settimeout(left)
    return bytes(response)


def _body(response: bytes) -> bytes | None:
    """The body of a response that ends with its connection (RFC 9112 section 6.3)."""
    head, _, body = response.partition(b"\r\n\r\n")
    return body if head.split(b" ", 2)[1:2] == [b"200"] else None


def read_entry(body: bytes) -> ServerEntry | None:
    """None if it is not of this version of the document."""
    with suppress(ValueError, RecursionError):
        entry = json.loads(body)
        if _is_entry(entry):
            return cast("ServerEntry", entry)
    return None


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.get("version") == VERSION
        and isinstance(entry.get("pid"), int)
        and (entry.get("config") is None or isinstance(entry.get("config"), str))
        and isinstance(entry.get("digest"), str)
        and _are(entry.get("routes"), _is_route)
        and isinstance(entry.get("started_at", 0.0), int | float)
        and _are(entry.get("hints"), lambda each: isinstance(each, str) and each.isprintable())
    )


def _are(values: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(values, list) and all(map(fits, values))


def _is_route(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("variable"), str)
        and (value.get("base_url") is None or isinstance(value["base_url"], str))
    )
