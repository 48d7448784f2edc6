"""A thousand callers for each process, and an API for so many: with the least HTTP that they need.

Each caller keeps one connection.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, cast

BEARER: Final = re.compile(rb"\r\nauthorization: bearer ([^\r]+)\r\n", re.IGNORECASE)
LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
REQUEST: Final = "GET /api/x HTTP/1.1\r\nHost: localhost\r\nToken-Proxy-Account: {account}\r\n\r\n"
PATIENCE: Final = 200  # seconds until the last of a herd has its response; more than any limit of the proxy's
AT_ONCE: Final = 100  # connections dialled at once: a listener's queue is limited
QUEUE: Final = 4096  # connections that wait to be accepted; most systems allow no more ...
LISTENERS: Final = 4  # ... and the proxies dial 8000 at once when the new token has arrived


class Caller(asyncio.Protocol):
    """One request at a time on one connection; the response is its status line and its body."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[str] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has classes of its own

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n")
        if end and length and len(body) >= int(length[1]):
            self._received = b""
            self._say(f"{head[9:12].decode()} {body.decode()}")

    def connection_lost(self, _error: Exception | None) -> None:
        self._say("the connection was lost")

    def _say(self, response: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(response)

    def ask(self, account: str) -> asyncio.Future[str]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(REQUEST.format(account=account).encode())
        return self._answer

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def herd(ports: Iterable[int], size: int) -> AsyncIterator[list[Caller]]:
    """`size` callers at each of the ports."""
    loop = asyncio.get_running_loop()
    turns = asyncio.Semaphore(AT_ONCE)

    async def dial(port: int) -> Caller:
        async with turns:
            return (await loop.create_connection(Caller, "127.0.0.1", port))[1]

    callers = await asyncio.gather(*(dial(port) for port in ports for _ in range(size)))
    yield callers
    for caller in callers:
        caller.hang_up()


async def responses(asked: Iterable[asyncio.Future[str]]) -> Counter[str]:
    """The number of each response."""
    async with asyncio.timeout(PATIENCE):
        return Counter(await asyncio.gather(*asked))


class Api:
    """It keeps its connections, and responds "ok" to a valid token."""

    def __init__(self, active: Callable[[str], str | None]) -> None:
        self.url = ""
        self.tokens: Counter[str] = Counter()  # uses of each since `hang_up`; "": an invalid one, or none
        self.active = active
        self.connections: set[asyncio.Transport] = set()

    def hang_up(self) -> None:
        """Close all connections: the proxies keep some for each account for a while."""
        for connection in self.connections:
            connection.abort()
        self.tokens.clear()

    def judge(self, head: bytes) -> tuple[str, str]:
        found = BEARER.search(head)
        token = found[1].decode() if found else ""
        is_good = self.active(token) is not None
        self.tokens[token if is_good else ""] += 1
        return ("200 OK", "ok") if is_good else ("401 Unauthorized", "no")


class _Served(asyncio.Protocol):
    def __init__(self, api: Api) -> None:
        self._api = api
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has classes of its own
        self._api.connections.add(self._transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._api.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            status, body = self._api.judge(head + b"\r\n")
            response = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            self._transport.write(response.encode())


@asynccontextmanager
async def api(active: Callable[[str], str | None]) -> AsyncIterator[Api]:
    """`active` returns the subject of a token, or None."""
    made, port = Api(active), 0
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for _ in range(LISTENERS):
            listening = loop.create_server(
                lambda: _Served(made), "127.0.0.1", port, backlog=QUEUE, reuse_port=True
            )
            server = await stack.enter_async_context(await listening)
            port = server.sockets[0].getsockname()[1]
        made.url = f"http://127.0.0.1:{port}"
        try:
            yield made
        finally:
            made.hang_up()
            await asyncio.sleep(0)  # until they are closed
