"""The interfaces between a service manager and its services, as environment variables describe them.

sd_notify(3): messages to the manager. sd_watchdog_enabled(3): the signs of life that it expects.
sd_listen_fds(3): sockets that it has bound, and keeps while the service is restarted. Other supervisors have
these interfaces too; without one, every call does nothing.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from proxy.errors import ConfigError, ProxyError

FIRST: Final = 3  # the first descriptor that is handed over: SD_LISTEN_FDS_START
MOST: Final = 1024  # descriptors; more is no number of listeners
PINGS: Final = 2  # for each time that the watchdog waits, as sd_watchdog_enabled(3) advises
_VARIABLES: Final = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
)


class BadHandover(ProxyError):
    """A descriptor was handed over that is no listening stream socket."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A socket that listens already. `name`: that of its unit, or FileDescriptorName=; may be empty."""

    sock: socket.socket
    name: str = ""


class Notifier:
    """Sends messages to `address`, the path of a datagram socket; none if it is empty.

    No error is raised: a proxy serves without its supervisor. What the manager's queue has no room for is
    sent by the next call.
    """

    def __init__(self, address: str = "", ping_every: float | None = None) -> None:
        self._socket: socket.socket | None = None
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._unsent: list[str] = []
        self._status = ""
        self.ping_every = ping_every  # seconds; None: no watchdog
        if address[:1] in {"/", "@"}:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    @property
    def is_heard(self) -> bool:
        return self._socket is not None

    def ready(self) -> None:
        """Serving, for the first time or again after `reloading`."""
        self._send("READY=1")

    def reloading(self) -> None:
        # Type=notify-reload requires the time, by which it knows that this reload is the one it asked for
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, seconds: float) -> None:
        """Draining, for at most `seconds`: the manager kills no sooner, whatever its TimeoutStopSec= is."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def status(self, line: str) -> None:
        """The line that `systemctl status` shows; sent when it changes."""
        if line != self._status:
            self._status = line
            self._unsent.append(f"STATUS={line}")
        self._flush()

    def ping(self) -> None:
        """The event loop runs."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        self._unsent.append(message)
        self._flush()

    def _flush(self) -> None:
        if self._socket is None:
            self._unsent.clear()
            return
        try:
            while self._unsent:
                self._socket.sendto(self._unsent[0].encode(), self._address)
                del self._unsent[0]
        except BlockingIOError:
            del self._unsent[:-MOST]  # the last ones count
        except OSError:  # the manager has gone
            self._unsent.clear()


@dataclass(frozen=True, slots=True)
class Supervisor:
    """What a service manager has given to this process."""

    notifier: Notifier
    sockets: tuple[Handed, ...] = ()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell the manager the error that ends the block: `systemctl status` shows it."""
        try:
            yield
        except ProxyError as error:
            self.notifier.status(_in_one_line(error))
            raise


def _in_one_line(error: ProxyError) -> str:
    """A line more would be a message of its own."""
    line = str(error).partition("\n")[0]
    more = len(error.faults) - 1 if isinstance(error, ConfigError) else 0
    return f"{line} (and {more} more in the log)" if more else line


NOBODY: Final = Supervisor(Notifier())


def take(environment: MutableMapping[str, str] = os.environ) -> Supervisor:
    """Take what is meant for this process out of the environment, so that no child takes it for its own.

    Raises BadHandover.
    """
    given = {name: value for name in _VARIABLES if (value := environment.pop(name, "")) != ""}
    notifier = Notifier(given.get("NOTIFY_SOCKET", ""), ping_every(given, os.getpid()))
    names = handed_over(given, os.getpid())
    return Supervisor(
        notifier, tuple(Handed(_socket(FIRST + place, name), name) for place, name in enumerate(names))
    )


def ping_every(given: MutableMapping[str, str], me: int) -> float | None:
    """Seconds between two signs of life; None if the watchdog is off, or watches another process."""
    microseconds = _number(given.get("WATCHDOG_USEC", ""))
    if not microseconds or not _is_for(given.get("WATCHDOG_PID", ""), me):
        return None
    return microseconds / 1e6 / PINGS


def handed_over(given: MutableMapping[str, str], me: int) -> list[str]:
    """The name of each descriptor that is handed over to the process `me`, from FIRST on.

    Some supervisors start a service through a program of their own, and leave LISTEN_PID out. Raises
    BadHandover.
    """
    fds = given.get("LISTEN_FDS", "")
    if not fds or not _is_for(given.get("LISTEN_PID", ""), me):
        return []
    count = _number(fds)
    if count is None or count > MOST:
        raise BadHandover(f"expected the number of sockets in LISTEN_FDS, at most {MOST}")
    names = given.get("LISTEN_FDNAMES", "").split(":")
    return [*names, *[""] * count][:count]


def _is_for(pid: str, me: int) -> bool:
    return not pid or _number(pid) == me


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < len(str(2**64)) else None


def _socket(descriptor: int, name: str) -> socket.socket:
    """Raises BadHandover."""
    called = f"descriptor {descriptor}{f' ({name})' if name else ''}"
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        raise BadHandover(
            f"{called} is not open: expected as many open sockets as the variable LISTEN_FDS says"
        ) from None
    if not is_socket:
        raise BadHandover(f"{called} is no socket: expected sockets alone, from ListenStream=")
    os.set_inheritable(descriptor, False)
    sock = socket.socket(fileno=descriptor)
    if fault := _fault(sock):
        sock.detach()
        raise BadHandover(f"{called} {fault}")
    return sock


def _fault(sock: socket.socket) -> str:
    if sock.family not in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}:
        return "is neither an IP nor a unix socket: expected one from ListenStream="
    if sock.type != socket.SOCK_STREAM:
        return "is no stream socket: expected one from ListenStream="
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "is a connection: expected a socket that listens, as Accept=no gives"
    return ""
