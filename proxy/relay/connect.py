"""TCP connections by the loop's callbacks: one future each."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any, Final

UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EINTR})


async def connect(sock: socket.socket, address: Any) -> None:
    """Connect a non-blocking socket to a numeric address. Raises OSError. It stays open on failure."""
    code = sock.connect_ex(address)
    if code in UNDER_WAY:
        await _writable(sock.fileno())
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _settle, done)
    try:
        await done
    finally:
        loop.remove_writer(descriptor)


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():  # it is called again if the loop is busy, and the future's task has not run yet
        done.set_result(None)
