"""A real relay between raw sockets, in its own event loop, for thousands of conversations in sequence.

Its upstream parses with tests/relay/strict.py and keeps unparsable bytes in `faults`. It echoes each request,
so that a response identifies its request; or it sends `answer`, whatever bytes those are.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from . import strict
from .conftest import proxying

ROUTE = b"/up"
BASE = b"/base"
END = b"\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
TURNS = 8  # of the loop, after which sent data has been read: each piece arrives by itself
PATIENCE = 5  # seconds; no conversation should take as long
LIMITS = "header_size = 8192\nfield_size = 1024\nfields = 32\nspool = 64"


class Upstream:
    def __init__(self) -> None:
        self.asked: list[strict.Message] = []
        self.faults: list[bytes] = []
        self.answer: bytes | None = None
        self.thinks = 0  # turns of the loop before a response
        self.hasty = False  # it responds to a request before its body has come
        self._open: dict[asyncio.StreamWriter, asyncio.Event] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended = self._open[writer] = asyncio.Event()
        with contextlib.suppress(ConnectionError, strict.Malformed):
            await self._converse(reader, writer)
        writer.close()
        del self._open[writer]
        ended.set()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data, early = b"", False
        while piece := await reader.read(65536):
            data += piece
            while data:
                try:
                    message, data = strict.read_request(data)
                except strict.Incomplete:
                    if self.hasty and END in data and not early:
                        writer.write(TOO_LARGE)
                        early = True
                    break
                except strict.Malformed:
                    self.faults.append(data)
                    raise
                if not early and not await self._answer(message, reader, writer):
                    return
                early = False

    async def _answer(
        self, message: strict.Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection can be used again."""
        self.asked.append(message)
        for _ in range(self.thinks):
            await asyncio.sleep(0)
        if self.answer is None:
            writer.write(echo(message))
            return True
        writer.write(self.answer)
        answer, rest = final(self.answer, message.start[0])
        if answer is None:
            return False
        if answer.closes or rest:  # this connection must not be used again
            self.faults += [more] if (more := await reader.read(65536)) else []
            return False
        return True

    async def ended(self) -> None:
        for writer, ended in list(self._open.items()):
            writer.close()
            await ended.wait()


def echo(message: strict.Message) -> bytes:
    method, target, body = message.told
    said = b"%b %b %b" % (method, target, hashlib.sha256(body).hexdigest().encode())
    head = b"HTTP/1.1 200 OK\r\nX-Echo: yes\r\nContent-Length: %d\r\n\r\n" % len(said)
    return head if method == b"HEAD" else head + said


def final(data: bytes, method: bytes) -> tuple[strict.Message | None, bytes]:
    """The final response in `data` if it is complete and not close-delimited; and the bytes after it."""
    try:
        message, data = strict.read_answer(data, method)
        while message.status < 200:
            message, data = strict.read_answer(data, method)
    except (strict.Malformed, strict.Incomplete):
        return None, b""
    return None if message.until_close else message, data


class Stage:
    """`with Stage() as stage`; all its work is done before its methods return."""

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._runner = self._stack.enter_context(asyncio.Runner())
        self._inside = AsyncExitStack()
        self.upstream = Upstream()
        self._stack.callback(lambda: self._runner.run(self._inside.aclose()))
        self._runner.run(self._start(folder))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    async def _start(self, folder: Path) -> None:
        server = await asyncio.start_server(self.upstream.serve, "127.0.0.1", 0)
        self._inside.push_async_callback(self.upstream.ended)
        self._inside.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        self.host = b"127.0.0.1:%d" % port
        url = f"http://127.0.0.1:{port}{BASE.decode()}"
        self.proxy = await self._inside.enter_async_context(proxying(folder, url, limits=LIMITS))

    def ours(self) -> tuple[list[bytes], list[bytes]]:
        """The lines that the relay adds before and after a caller's; they change with each refresh."""
        return self._runner.run(self._ours())

    async def _ours(self) -> tuple[list[bytes], list[bytes]]:
        attachment = await self.proxy.tokens.get(self.proxy.account)
        via = self.proxy.relay.context.via
        return [b"Host: " + self.host], [attachment.fields.removeprefix(b"\r\n"), b"Via: 1.1 " + via]

    def say(self, pieces: list[bytes], *, eof: bool) -> tuple[bytes, bool]:
        """All bytes received until the connection ends, and whether it ended in an orderly way."""
        return self._runner.run(self._say(pieces, eof=eof))

    async def _say(self, pieces: list[bytes], *, eof: bool) -> tuple[bytes, bool]:
        heard = b""
        reader, writer = await self.proxy.connect()
        try:
            async with asyncio.timeout(PATIENCE):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    for _ in range(TURNS):
                        await asyncio.sleep(0)
                if eof:
                    writer.write_eof()
                while part := await reader.read(65536):
                    heard += part
        except (ConnectionError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            return heard, False
        else:
            return heard, True
        finally:
            writer.close()

    def check_plain(self) -> None:
        """Check that a plain request still gets its own response."""
        self.upstream.answer, self.upstream.hasty = None, False
        self.upstream.asked.clear()
        sent = (
            b"POST /up/plain HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
        )
        heard, well = self.say([sent], eof=False)
        assert well
        answer, rest = strict.read_answer(heard, b"POST")
        told = strict.Message((b"POST", BASE + b"/plain", b""), [], b"hi")
        assert (answer.status, rest) == (200, b"")
        assert answer.body == echo(told).partition(b"\r\n\r\n")[2]
        assert [message.told for message in self.upstream.asked] == [told.told]
        assert not self.upstream.faults
