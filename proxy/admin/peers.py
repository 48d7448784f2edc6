"""The user id of the process at the other end of a connection to the admin listener.

On a unix socket the kernel tells it (SO_PEERCRED). On loopback TCP the peer's own socket is looked up by its
addresses and ports: in constant time by netlink (sock_diag(7)), else in /proc/net/tcp. All of this is of
Linux only: elsewhere the user is unknown, and a session is needed.

A socket counts only while it is established and belongs to a process: the kernel shows those that were closed
as root's.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from asyncio import BaseTransport
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from proxy.hosts import IPAddress, read_ip

PROC: Final = Path("/proc/net")
MOST_SOCKETS: Final = 4000  # lines of /proc/net/tcp read for one lookup: up to 80 ms on a busy machine
NOBODY: Final = 65534  # shown for all users that have no number in this user namespace, too
TELLS_USERS: Final = sys.platform == "linux"
_ESTABLISHED: Final = 1
_SOCK_DIAG: Final = 4  # NETLINK_SOCK_DIAG, which Python does not name
_BY_FAMILY, _REQUEST, _ERROR = 20, 1, 2
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_ASKED: Final = struct.Struct("=BBBxI")  # struct inet_diag_req_v2, before its id
_ID: Final = struct.Struct("!HH16s16s")  # struct inet_diag_sockid, up to the addresses
_ANY_INTERFACE_AND_COOKIE: Final = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_FOUND: Final = struct.Struct("=xBxx")  # struct inet_diag_msg before its id: the state
_OWNER: Final = struct.Struct("=12xII")  # and behind it: uid, inode
_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_WAIT: Final = 1.0  # seconds; netlink replies within the call that asks


class End(NamedTuple):
    """One end of a TCP connection."""

    address: IPAddress
    port: int

    @property
    def packed(self) -> bytes:
        return self.address.packed.ljust(16, b"\0")


class Socket(NamedTuple):
    """A socket as the kernel shows it."""

    state: int
    uid: int
    inode: int  # 0: no process holds it


def uid_of(transport: BaseTransport | None) -> int | None:
    """The user id of the peer; None if it is unknown: not on this machine, not on Linux, or already gone."""
    sock = transport.get_extra_info("socket") if transport is not None else None
    return None if sock is None else uid_of_socket(sock)


def uid_of_socket(sock: Any, *, at_once: bool = False) -> int | None:
    """As `uid_of`. `at_once`: only if that takes a constant time."""
    if not TELLS_USERS:
        return None
    find = _of_unix if sock.family == socket.AF_UNIX else _of_tcp_at_once if at_once else _of_tcp
    try:
        uid = find(sock)
    except (OSError, ValueError):  # the connection has ended
        return None
    return None if uid == NOBODY else uid


def is_own(uid: int | None) -> bool:
    """Whether this is our own user, or root."""
    return uid is not None and uid in {0, os.geteuid()}


def address_of(transport: BaseTransport | None) -> IPAddress | None:
    """The peer's address; None on a unix socket. An IPv4 address in an IPv6 one counts as itself."""
    name = transport.get_extra_info("peername") if transport is not None else None
    return _end(name).address if isinstance(name, tuple) else None


def _end(name: tuple[str, int]) -> End:
    return End(read_ip(name[0]), name[1])


def _of_unix(sock: Any) -> int:
    with socket.socket(fileno=os.dup(sock.fileno())) as real:  # uvloop's own object has no getsockopt
        peer = real.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(peer)[1])


def _of_tcp_at_once(sock: Any) -> int | None:
    return _of_tcp(sock, at_once=True)


def _of_tcp(sock: Any, *, at_once: bool = False) -> int | None:
    peer, ours = _end(sock.getpeername()), _end(sock.getsockname())
    if not (peer.address.is_loopback and ours.address.is_loopback):
        return None
    try:
        found = _by_netlink(peer, ours)
        if found is not None or _by_netlink(ours, peer) is not None:
            return _owner(found)
    except OSError:  # forbidden, or not in this kernel
        pass
    if at_once:
        return None
    return _by_proc(peer, ours)  # netlink does not even know our own end of the connection


def _owner(found: Socket | None) -> int | None:
    is_held = found is not None and found.state == _ESTABLISHED and found.inode
    return found.uid if found is not None and is_held else None


def _by_netlink(local: End, remote: End) -> Socket | None:
    """The socket between these ends, as seen from `local`. Raises OSError."""
    family = socket.AF_INET if local.address.version == 4 else socket.AF_INET6
    ends = _ID.pack(local.port, remote.port, local.packed, remote.packed)
    body = _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + ends + _ANY_INTERFACE_AND_COOKIE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as link:
        link.settimeout(_WAIT)
        link.sendto(_HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST, 1, 0) + body, (0, 0))
        reply = link.recv(4096)
    if _HEADER.unpack_from(reply)[1] == _ERROR:
        code = -struct.unpack_from("=i", reply, _HEADER.size)[0]
        if code != errno.ENOENT:
            raise OSError(code, os.strerror(code))
        return None
    return _read(reply[_HEADER.size :], local, remote)


def _read(found: bytes, local: End, remote: End) -> Socket | None:
    """Read struct inet_diag_msg. Where no connection fits, the kernel shows a listener: that is not it."""
    (state,) = _FOUND.unpack_from(found)
    port, remote_port, address, remote_address = _ID.unpack_from(found, _FOUND.size)
    uid, inode = _OWNER.unpack_from(found, _FOUND.size + _ID.size + len(_ANY_INTERFACE_AND_COOKIE))
    is_it = (port, remote_port) == (local.port, remote.port)
    is_it = is_it and _is_at(address, local) and _is_at(remote_address, remote)
    return Socket(state, uid, inode) if is_it else None


def _is_at(packed: bytes, end: End) -> bool:
    return packed == end.packed or packed == _mapped(end)


def _mapped(end: End) -> bytes:
    return b"\0" * 10 + b"\xff\xff" + end.address.packed if end.address.version == 4 else end.packed


def _by_proc(local: End, remote: End) -> int | None:
    """The owner, in time that grows with the number of sockets."""
    tables = [("tcp6", [_hex(_mapped(end), end.port) for end in (local, remote)])]
    if local.address.version == 4:
        tables.insert(0, ("tcp", [_hex(end.address.packed, end.port) for end in (local, remote)]))
    for name, wanted in tables:
        for row in _rows(PROC / name):
            if row[1:3] == wanted:
                return _owner(Socket(int(row[3], 16), int(row[7]), int(row[9])))
    return None


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        with path.open() as table:
            next(table, "")
            for _, line in zip(range(MOST_SOCKETS), table, strict=False):
                yield line.split()
    except OSError:
        return


def _hex(packed: bytes, port: int) -> str:
    """As in /proc/net/tcp: each 32 bits of the address as a number of this machine."""
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
