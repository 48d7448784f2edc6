"""Callers that count what becomes of their requests while the server is restarted."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter

PATIENCE = 120.0  # seconds for a response: a request may wait for the whole of a restart
PAUSE = 0.005  # seconds between two requests of a caller
HESITATION = 0.2  # seconds between the connection of every other caller and its request, as on a slow network
REQUEST = b"GET /machine/x HTTP/1.1\r\nHost: localhost\r\n%b\r\n"

# What becomes of a request. `closed`: its kept connection had ended before a byte of a response came, which
# HTTP/1.1 can't rule out, and for which clients send a request again (RFC 9112, section 9.3.1).
OK, REFUSED, FAILED, CLOSED = "ok", "refused", "failed", "closed"


class Callers:
    """Callers of one listener, each of which sends one request after the other."""

    def __init__(self, place: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self._place = place
        self._tls = tls
        self._tasks: list[asyncio.Task[None]] = []
        self.fresh: Counter[str] = Counter()  # a connection for each request
        self.kept: Counter[str] = Counter()  # one connection for many
        self.errors: list[str] = []

    def start(self, fresh: int, kept: int, pauses: tuple[float, ...] = (PAUSE,)) -> None:
        for number in range(fresh):
            hesitation = HESITATION if number % 2 else 0.0
            self._tasks.append(asyncio.create_task(self._with_fresh_connections(hesitation)))
        for number in range(kept):
            self._tasks.append(asyncio.create_task(self._with_one(pauses[number % len(pauses)])))

    async def go_on(self, requests: int) -> None:
        """Wait for so many more that succeed, of each kind."""
        await asyncio.gather(self.go_on_fresh(requests), _until(self.kept, self.kept[OK] + requests))

    async def go_on_fresh(self, requests: int) -> None:
        """The same, of those with a connection each."""
        await _until(self.fresh, self.fresh[OK] + requests)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            *self._place, ssl=self._tls, ssl_handshake_timeout=PATIENCE if self._tls else None
        )

    async def _with_fresh_connections(self, hesitation: float) -> None:
        while True:
            self.fresh[await self._once(hesitation)] += 1
            await asyncio.sleep(PAUSE)

    async def _once(self, hesitation: float) -> str:
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await self._connect()
        except (OSError, TimeoutError) as error:
            self.errors.append(repr(error))
            return REFUSED
        try:
            await asyncio.sleep(hesitation)
            async with asyncio.timeout(PATIENCE):
                status, _ = await asked(reader, writer, b"Connection: close\r\n")
        except (OSError, EOFError, TimeoutError) as error:
            self.errors.append(repr(error))
            return FAILED
        finally:
            writer.close()
        return OK if status == 200 else f"{status}"

    async def _with_one(self, pause: float) -> None:
        while True:
            try:
                reader, writer = await self._connect()
            except OSError as error:
                self.errors.append(repr(error))
                self.kept[REFUSED] += 1
                continue
            try:
                await self._series(reader, writer, pause)
            finally:
                writer.close()

    async def _series(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause: float) -> None:
        """Requests on one connection, until its end is announced, seen in between, or met by a request."""
        served = 0
        while not reader.at_eof():
            try:
                async with asyncio.timeout(PATIENCE):
                    status, closes = await asked(reader, writer)
            except (OSError, EOFError, TimeoutError) as error:
                is_early = served and not (isinstance(error, asyncio.IncompleteReadError) and error.partial)
                self.kept[CLOSED if is_early else FAILED] += 1
                if not is_early:
                    self.errors.append(repr(error))
                return
            self.kept[OK if status == 200 else f"{status}"] += 1
            served += 1
            if closes:
                return
            await asyncio.sleep(pause)


async def _until(counted: Counter[str], requests: int) -> None:
    while counted[OK] < requests:
        await asyncio.sleep(0.01)


async def asked(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, more: bytes = b""
) -> tuple[int, bool]:
    """The status of a response, and whether it announces the connection's end. Raises OSError, EOFError."""
    writer.write(REQUEST % more)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    (length,) = (int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return int(head.split()[1]), b"connection: close" in lines
