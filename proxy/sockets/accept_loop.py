"""Accepts the connections of listening sockets, for acceptors with TLS and without."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.accept import Gate

PAUSE: Final = 0.1  # seconds without accepting, if there is no room or no open file: no spinning


class AcceptLoop:
    """Pauses while its gate has no room, and while there is no free file."""

    def __init__(
        self,
        gate: Gate,
        listeners: list[socket.socket],
        backlog: int,
        per_turn: int,
        begin: Callable[[socket.socket, object], None],
    ) -> None:
        """Begin to accept. Raises OSError.

        `per_turn`: connections accepted before the event loop goes on. `begin`: takes each connection, and
        its peer's address.
        """
        self.listeners = listeners
        self._gate = gate
        self._per_turn = per_turn
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        for listener in listeners:
            listener.setblocking(False)
            listener.listen(backlog)
        for listener in listeners:
            self._resume(listener)

    def close(self) -> None:
        """Stop accepting."""
        for listener in self.listeners:
            if listener.fileno() < 0:
                continue
            self._loop.remove_reader(listener)
            if pause := self._pauses.pop(listener, None):
                pause.cancel()
            listener.close()

    def _resume(self, listener: socket.socket) -> None:
        self._pauses.pop(listener, None)
        self._loop.add_reader(listener, self._accept, listener)

    def _pause(self, listener: socket.socket) -> None:
        self._loop.remove_reader(listener)
        self._pauses[listener] = self._loop.call_later(PAUSE, self._resume, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(self._per_turn):
            if not self._gate.has_room():
                self._pause(listener)
                return
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:  # it was ended while it was queued
                continue
            except OSError:
                # EMFILE, ENFILE, ENOBUFS, ENOMEM: it stays queued, so the listener stays readable
                self._gate.out_of_files()
                self._pause(listener)
                return
            self._begin(sock, address)
