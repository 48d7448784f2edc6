"""A TCP relay over a long way: python -m tests.fakes.delaying_relay PORT SECONDS.

What it receives goes to 127.0.0.1:PORT, and back, SECONDS later each way, in any amount. A client's first
bytes take two ways more, as TCP's own handshake would: this machine's kernel has accepted it at once.
Prints its port as JSON, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from typing import cast

import uvloop

from tests.fakes.crowd import raise_file_limit, say


class End(asyncio.Protocol):
    """One of the two connections. `other` is known before anything is read."""

    def __init__(self, seconds: float, first: float) -> None:
        self._seconds = seconds
        self._ready_at = asyncio.get_running_loop().time() + first
        self._on_the_way: deque[bytes | None] = deque()  # None: the end
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop has classes of its own
        self.transport.pause_reading()  # until there is another end

    def data_received(self, data: bytes) -> None:
        self._send(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._send(None)

    def _send(self, data: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        self._on_the_way.append(data)
        loop.call_at(max(loop.time(), self._ready_at) + self._seconds, self._arrive)

    def _arrive(self) -> None:
        data = self._on_the_way.popleft()
        transport = self.other.transport if self.other else None
        if transport is None or transport.is_closing():
            return
        if data is None:
            transport.close()
        else:
            transport.write(data)


async def serve(port: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def join(client: End) -> None:
        try:
            _, upstream = await loop.create_connection(lambda: End(seconds, 0.0), "127.0.0.1", port)
        except OSError:
            assert client.transport is not None
            client.transport.abort()
            return
        client.other, upstream.other = upstream, client
        for end in (client, upstream):
            assert end.transport is not None
            end.transport.resume_reading()

    def accepted() -> End:
        client = End(seconds, 2 * seconds)
        task = loop.create_task(join(client))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return client

    server = await loop.create_server(accepted, "127.0.0.1", 0, backlog=4096)
    over = asyncio.Event()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=wait, daemon=True).start()
    say({"port": server.sockets[0].getsockname()[1]})
    await over.wait()


def main() -> None:
    raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), float(sys.argv[2])))


if __name__ == "__main__":
    main()
