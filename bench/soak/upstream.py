"""Event streams over TLS: python upstream.py CERTIFICATE; prints its port when it is ready.

The response to GET /STREAM/COUNT has COUNT events, one a second, the first at once. An event has the names of
its stream, its number and the time of sending. Requests without a token get a 401.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import time

from streams import EVERY

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def tell(writer: asyncio.StreamWriter, stream: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    writer.write(HEAD)
    for number in range(count):
        await asyncio.sleep(began + number * EVERY - loop.time())
        event = f"data: {stream} {number} {time.monotonic_ns()}\n\n".encode()
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
    writer.write(b"0\r\n\r\n")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"\r\nauthorization: bearer " not in head.lower():
                writer.write(REFUSED)
                break
            stream, count = head.split(b" ")[1].decode().split("/")[-2:]
            await tell(writer, stream, int(count))
            await writer.drain()
    writer.close()


async def main() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(sys.argv[1])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()  # until it is killed


if __name__ == "__main__":
    asyncio.run(main())
