"""Sockets of a service manager, for the listeners of the configuration.

A socket belongs to the listener of its address. The manager keeps it open: what arrives while no process
accepts waits in its queue, so that a restart refuses no connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from proxy.config.address import Address
from proxy.errors import ProxyError
from proxy.systemd import Handed

BACKLOG: Final = 65535  # the kernel reduces it to its own limit; less would shorten the manager's queue
_KEYS: Final = "server.listen, server.admin, server.health, or listen of a route"
_BY_OTHERS: Final = 0o022  # permission to write to a socket's file is permission to connect


class Misfit(ProxyError):
    """A socket that was handed over fits no listener of the configuration, or too many may connect to it."""


class Adopted:
    """The sockets that were handed over. They stay open until the process ends; a listener gets duplicates.

    So the listener of a route may come back, by a reload, to the socket that it left.
    """

    def __init__(self, handed: Iterable[Handed] = ()) -> None:
        self._handed = tuple(handed)
        self._used: dict[Address, list[socket.socket]] = {}

    async def of(self, address: Address) -> list[socket.socket]:
        """The sockets of a listener; none if it has to be bound. Raises Misfit."""
        hosts = [address]
        if self._handed and _is_name(address):
            hosts = await _addresses(address)
        fitting = [each.sock for each in self._handed if any(fits(each.sock, host) for host in hosts)]
        if fitting:
            check_mode(address)
            self._used[address] = fitting
        return [sock.dup() for sock in fitting]

    def leave(self, address: Address) -> None:
        """A listener has ended."""
        self._used.pop(address, None)

    def unused(self) -> list[Handed]:
        """Those of no listener: nobody accepts what waits in their queues."""
        used = {sock for sockets in self._used.values() for sock in sockets}
        return [each for each in self._handed if each.sock not in used]


def fits(sock: socket.socket, address: Address) -> bool:
    """Whether a socket is that of a listener with a path or an IP address."""
    end = sock.getsockname()
    if sock.family == socket.AF_UNIX or address.is_unix:
        return sock.family == socket.AF_UNIX and address.is_unix and _same_file(end, address.path)
    try:
        same = ipaddress.ip_address(end[0]) == ipaddress.ip_address(address.host)
    except ValueError:
        return False
    return same and bool(end[1] == address.port)


def _is_name(address: Address) -> bool:
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return not address.is_unix
    return False


async def _addresses(named: Address) -> list[Address]:
    """Empty if the name does not resolve: then binding fails too, with a message of its own."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(named.host, named.port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [Address(str(end[0]), named.port) for *_, end in found]


def _same_file(end: str | bytes, path: str) -> bool:
    return isinstance(end, str) and end[:1] == "/" and os.path.realpath(end) == os.path.realpath(path)


def check_mode(address: Address) -> None:
    """Require that a unix socket's file has no wider mode than its listener. Raises Misfit.

    A file that can't be looked at is in a folder that others can't enter either, or gone.
    """
    if not address.is_unix:
        return
    try:
        mode = stat.S_IMODE(Path(address.path).stat().st_mode)
    except OSError:
        return
    if mode & _BY_OTHERS & ~address.mode:
        raise Misfit(
            f"the socket {address} was handed over with mode {mode:04o}: expected {address.mode:04o}, as "
            f"in the configuration - write SocketMode={address.mode:04o} in the socket unit"
        )


def misfit(handed: Handed, listeners: Iterable[Address]) -> str:
    """The sentence about a socket that fits none of the `listeners` of the configuration."""
    name = f" ({handed.name})" if handed.name else ""
    fault = f"the socket {_shown(handed.sock)}{name} fits no listener: expected its address in "
    near = [str(each) for each in listeners if each.port and each.port == _port(handed.sock)]
    if near:
        return f"{fault}{_KEYS} - or write ListenStream={near[0]} in the socket unit, as in the configuration"
    return fault + _KEYS


def _port(sock: socket.socket) -> int:
    return 0 if sock.family == socket.AF_UNIX else int(sock.getsockname()[1])


def _shown(sock: socket.socket) -> str:
    end = sock.getsockname()
    if sock.family != socket.AF_UNIX:
        return str(Address(end[0], end[1]))
    return f"unix:{end if isinstance(end, str) else '@' + end[1:].decode(errors='replace')}"
