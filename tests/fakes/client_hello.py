"""What a TLS client offers in its first message, read from its bytes (RFC 8446 section 4.1.2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

PRE_SHARED_KEY = 41
SESSION_TICKET = 35


class ClientHello:
    """`session_id`, and `extensions` by number. `record`: a whole TLS record."""

    def __init__(self, record: bytes) -> None:
        assert record[0] == 22, "no handshake"
        assert record[5] == 1, "no ClientHello"
        at = 5 + 4 + 2 + 32
        self.session_id, at = _vector(record, at, 1)
        _, at = _vector(record, at, 2)  # ciphers
        _, at = _vector(record, at, 1)  # compression
        block, _ = _vector(record, at, 2)
        self.extensions = {}
        at = 0
        while at < len(block):
            number = int.from_bytes(block[at : at + 2])
            self.extensions[number], at = _vector(block, at + 2, 2)

    @property
    def ticket(self) -> bytes:
        """Of TLS 1.3, else of TLS 1.2, else empty."""
        offered = self.extensions.get(PRE_SHARED_KEY)
        if offered is not None:
            identities, _ = _vector(offered, 0, 2)
            return _vector(identities, 0, 2)[0]
        return self.extensions.get(SESSION_TICKET, b"")


def _vector(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    begin = at + size
    end = begin + int.from_bytes(data[at:begin])
    return data[begin:end], end


Verdict = Callable[[ClientHello], str]


class Tap:
    """A relay that reads each ClientHello. `verdict` may end a connection: "close", "reset" or "hang"."""

    def __init__(self, port: int, verdict: Verdict) -> None:
        self.hellos: list[ClientHello] = []
        self.port = 0
        self._to, self._verdict = port, verdict

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, EOFError):
            record = await reader.readexactly(5)
            record += await reader.readexactly(int.from_bytes(record[3:5]))
            self.hellos.append(ClientHello(record))
            match self._verdict(self.hellos[-1]):
                case "close":
                    pass
                case "alert":
                    writer.write(bytes.fromhex("15030300020228"))  # handshake_failure
                case "reset":
                    writer.transport.abort()
                case "hang":
                    await reader.read()
                case _:
                    await self._relay(record, reader, writer)
        writer.close()

    async def _relay(self, record: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        far_writer.write(record)
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def tapping(port: int, verdict: Verdict = lambda _: "") -> AsyncIterator[Tap]:
    tap = Tap(port, verdict)
    server = await asyncio.start_server(tap.serve, "127.0.0.1", 0)
    tap.port = server.sockets[0].getsockname()[1]
    try:
        yield tap
    finally:
        server.close()
