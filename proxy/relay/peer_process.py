"""The process at the other end of a unix socket: its user and groups when it connected."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final, NamedTuple

_SO_PEERGROUPS: Final = 59  # of Linux; Python has no name for it
_MOST_BYTES: Final = 1024  # that Python's getsockopt returns: 256 groups
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_LOCAL_PEERCRED: Final = 1  # of macOS, at level 0
_XUCRED: Final = struct.Struct("IIh2x16I")  # its struct xucred: version, uid, number of groups, groups


class Process(NamedTuple):
    """`gids`: the effective group first, then the supplementary ones."""

    uid: int
    gids: list[int]


def of_socket(descriptor: int) -> Process | None:
    """None if this is no unix socket, or the system does not tell."""
    try:
        sock = socket.socket(fileno=socket.dup(descriptor))
    except OSError:
        return None
    with sock:
        if sock.family != socket.AF_UNIX:
            return None
        try:
            return _of_darwin(sock) if sys.platform == "darwin" else _of_linux(sock)
        except (OSError, struct.error):
            return None


def _of_linux(sock: socket.socket) -> Process:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, gid = _CREDENTIALS.unpack(credentials)
    others = _supplementary(sock)
    return Process(uid & 0xFFFFFFFF, [gid & 0xFFFFFFFF, *others])


def _supplementary(sock: socket.socket) -> list[int]:
    try:
        groups = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
    except OSError:  # more than fit, or a kernel before 4.13
        return []
    return list(struct.unpack(f"{len(groups) // 4}I", groups))


def _of_darwin(sock: socket.socket) -> Process:
    version, uid, count, *groups = _XUCRED.unpack(sock.getsockopt(0, _LOCAL_PEERCRED, _XUCRED.size))
    if version != 0:
        raise OSError("an unknown struct xucred")
    return Process(uid, groups[:count])
