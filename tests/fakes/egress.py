"""An egress proxy: responds to CONNECT as scripted, and connects to a port of this machine."""

import asyncio
import contextlib
from contextlib import asynccontextmanager

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


class EgressProxy:
    """The port of each CONNECT is one of this machine, whatever its host, as if DNS resolved it here.

    `answers` are said one after the other, and then comes what `then` says: "lead" to the upstream, "hang up"
    or be "silent". `heads` are the requests that came.
    """

    def __init__(self):
        self.answers = [OPEN]
        self.then = "lead"
        self.heads = []
        self.port = 0
        self.serving = set()

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, EOFError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            for answer in self.answers:
                writer.write(answer)
                await writer.drain()
                await asyncio.sleep(0.001)
            if self.then == "silent":
                await reader.read()
            elif self.then == "lead":
                port = int(head.split()[1].rpartition(b":")[2])
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        await _close(writer)


async def _pump(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    await _close(writer)


async def _close(writer):
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def egress_proxy():
    proxy = EgressProxy()
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        server.close()
        await asyncio.gather(*proxy.serving)  # its clients have gone by now
