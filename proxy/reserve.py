"""The gate of a data listener that keeps the reserve of open files, where accepting might take it.

With TLS, the relay learns of a connection only when its handshake is done. With few files, one burst of
connections takes them all, as the event loop accepts whatever is queued before the relay's refusals close
anything. Here each connection needs a file below the reserve before it is accepted, or waits in the kernel's
queue. Elsewhere the number of an accepted connection's file tells as much, without a probe.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from proxy.accept import Gate
from proxy.fd_limits import Descriptors


class ReserveGate(web.Server, Gate):
    """Wraps the server of a listener. `probes`: whether a file must be free before each accept()."""

    takes_plain = True

    def __init__(self, listener: web.Server, files: Descriptors, *, probes: bool) -> None:
        super().__init__(listener.request_handler)
        self._listener = listener
        self._files = files
        self._probes = probes

    def has_room(self) -> bool:
        if (
            not self._probes or self._files.refuse_another_caller()
        ):  # with a response, which the relay decides on
            return True
        self._files.log_refusal()
        return False

    def admit(self, _sock: socket.socket) -> asyncio.Protocol:
        return self._listener()

    def failed(self, protocol: asyncio.Protocol) -> None: ...

    def out_of_files(self) -> None:
        self._files.log_refusal()

    def pre_shutdown(self) -> None:
        self._listener.pre_shutdown()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 (aiohttp's signature)
        await self._listener.shutdown(timeout)
