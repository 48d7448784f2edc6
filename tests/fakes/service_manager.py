"""A stand-in for systemd: it binds sockets, starts a service with them, and reads what the service tells.

As systemd does for a restart, it stops the service before it starts the next, and keeps the sockets.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

FIRST = 3  # the first descriptor handed over
ABOVE = 100  # where descriptors are kept that must not be in the way
POLL = 0.01  # seconds
PATIENCE = 90.0  # seconds
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class ServiceManager:
    """`watchdog`: WATCHDOG_USEC in seconds. `log`: a file for the service's stderr."""

    def __init__(self, folder: Path, *, watchdog: float | None = None, abstract: bool = False) -> None:
        self.log = folder / "service.log"
        self.pid = 0
        self.told: list[str] = []  # lines of messages, in order
        self.last = ""  # the line that `until` has found
        self.strangers: list[int] = []  # pids of other senders
        self._watchdog = watchdog
        self._listeners: list[tuple[socket.socket, str]] = []
        self._address = f"@token-proxy-test-{os.getpid()}-{id(self)}" if abstract else str(folder / "notify")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._notify.setblocking(False)
        self._notify.bind(self._address.replace("@", "\0", 1) if abstract else self._address)

    def bind(self, address: tuple[str, int] | str, name: str = "", mode: int = 0o600) -> socket.socket:
        """Listen at a host and port, or at a path with this mode, for the service."""
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(address)
            Path(address).chmod(mode)
        else:
            sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        sock.listen(4096)
        self.hand_over(sock, name)
        return sock

    def hand_over(self, sock: socket.socket, name: str = "") -> None:
        self._listeners.append((sock, name))

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the service. It has the pid that LISTEN_PID says, as the shell becomes the command."""
        variables = {**environment, "NOTIFY_SOCKET": self._address}
        pids = "LISTEN_PID=$$"
        if self._listeners:
            variables |= {
                "LISTEN_FDS": str(len(self._listeners)),
                "LISTEN_FDNAMES": ":".join(name for _, name in self._listeners),
            }
        if self._watchdog is not None:
            variables["WATCHDOG_USEC"] = str(int(self._watchdog * 1e6))
            pids += " WATCHDOG_PID=$$"
        kept = [fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, ABOVE) for sock, _ in self._listeners]
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        placed = [(os.POSIX_SPAWN_DUP2, fd, FIRST + place) for place, fd in enumerate(kept)]
        try:
            self.pid = os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", f'export {pids}; exec "$@"', "sh", *command],
                variables,
                file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2), *placed],
            )
        finally:
            for fd in (*kept, log):
                os.close(fd)

    async def until(self, line: str, seconds: float = PATIENCE) -> None:
        """Wait until the service tells a line that begins so; `told` is emptied up to it."""
        end = time.monotonic() + seconds
        while True:
            self._hear()
            for place, told in enumerate(self.told):
                if told.startswith(line):
                    self.last = told
                    del self.told[: place + 1]
                    return
            if self.pid and self._ended() is not None:
                raise AssertionError(f"it ended before it told {line!r}: {self.log.read_text()}")
            if time.monotonic() > end:
                raise AssertionError(f"it has not told {line!r}, but {self.told}: {self.log.read_text()}")
            await asyncio.sleep(POLL)

    def hear(self) -> list[str]:
        """What the service has told since the last call of this or of `until`."""
        self._hear()
        told, self.told = self.told, []
        return told

    def _hear(self) -> None:
        while True:
            try:
                message, extra, _, _ = self._notify.recvmsg(65536, socket.CMSG_SPACE(CREDENTIALS.size))
            except BlockingIOError:
                return
            (sender,) = (CREDENTIALS.unpack(data)[0] for *_, data in extra)
            if sender == self.pid:
                self.told += message.decode().split("\n")
            else:
                self.strangers.append(sender)

    def signal(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)

    async def end(self, seconds: float = PATIENCE) -> int:
        """Wait for the end of the service; its exit code."""
        end = time.monotonic() + seconds
        while (code := self._ended()) is None:
            if time.monotonic() > end:
                raise AssertionError(f"it does not end: {self.log.read_text()}")
            await asyncio.sleep(POLL)
        return code

    def _ended(self) -> int | None:
        if not self.pid:
            raise AssertionError("it was not started")
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        self._hear()  # its last words
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    async def stop(self) -> int:
        self.signal()
        return await self.end()

    def close(self) -> None:
        if self.pid:
            self.signal(signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
        for sock, _ in self._listeners:
            sock.close()
        self._notify.close()
