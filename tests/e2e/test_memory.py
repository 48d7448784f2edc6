"""The memory for callers that stall or are idle: the RSS of the real process."""

import asyncio
import contextlib
import itertools
import random
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme

from proxy.fd_limits import FOR_UPSTREAMS, RESERVE

from .authorization_servers import AuthorizationServer, toml
from .conftest import MakeProxy
from .memory import MB, reads_memory, resident, watched_memory
from .proxy_process import Proxy

pytestmark = reads_memory

STALLED = 100
OFFERED = 10**9  # bytes in each body
READ_ON = 4 * MB  # of one body, after all have stalled
MOST_FOR_A_STREAM = MB
IDLE = 10_000
MOST_FOR_A_CALLER = 10 * 1024
FILES = int((IDLE + 500) / (1 - FOR_UPSTREAMS)) + RESERVE  # that the process needs; 500 are not for callers
AT_ONCE = 500  # callers that send before the first gets its response; BACKLOG is 1024
PATIENCE = 90  # seconds; more than anything here takes
IN_KERNEL = (
    256 * 1024
)  # bytes for each socket of ours: by itself it takes tens of MB, until it is short of them
QUIET = 0.3  # seconds without a byte anywhere: all have stalled
NOISE = random.Random(4).randbytes(65536 - 8)
ROUTES = """
[[routes]]
path = "/plain"
upstream = "http://127.0.0.1:{plain}"
credential = "crm"

[[routes]]
path = "/tls"
upstream = "https://localhost:{tls}"
credential = "crm"
tls = {{ ca = {ca} }}

[limits]
idle = 3600.0
header_time = 3600.0
connections = {connections}
"""


def blocks() -> Iterator[bytes]:
    """A body with its offset at each point."""
    for number in itertools.count():
        yield number.to_bytes(8) + NOISE


def beginning(size: int) -> bytes:
    return b"".join(itertools.islice(blocks(), size // 65536 + 1))[:size]


class Upstream:
    """Offers endless bodies; it does not read those that it receives until it is released."""

    def __init__(self) -> None:
        self.moved = 0  # bytes sent
        self.go_on = asyncio.Event()
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    await self._take(reader)
                elif b"/body" in head:
                    await self._give(writer)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def _give(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % OFFERED)
        for block in blocks():
            writer.write(block)
            await writer.drain()
            self.moved += len(block)

    async def _take(self, reader: asyncio.StreamReader) -> None:
        await self.go_on.wait()
        self.go_on.clear()  # one of them reads on
        self.received.set_result(await reader.readexactly(READ_ON))
        await asyncio.Event().wait()


@asynccontextmanager
async def before(
    server: AuthorizationServer, make_proxy: MakeProxy, folder: Path
) -> AsyncIterator[tuple[Proxy, Upstream]]:
    """The proxy before an upstream, plain and TLS, that this test serves."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    ca = folder / "own-ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    upstream = Upstream()
    connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        await upstream.serve(reader, writer)

    plain = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    tls = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024, ssl=context)
    for listener in (*plain.sockets, *tls.sockets):  # what they accept inherits it
        keep_small(listener)
    ports = {"plain": plain.sockets[0].getsockname()[1], "tls": tls.sockets[0].getsockname()[1]}
    proxy = make_proxy(
        server,
        server.machine_credential("client_secret_basic"),
        ROUTES.format(ca=toml(str(ca)), connections=IDLE + AT_ONCE, **ports),
    )
    await asyncio.to_thread(proxy.start)
    try:
        yield proxy, upstream
    finally:
        plain.close()
        tls.close()
        for writer in connections:
            writer.transport.abort()


def asked(method: str, path: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def keep_small(sock: asyncio.trsock.TransportSocket | socket.socket) -> None:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, IN_KERNEL)


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    sock = socket.socket()
    keep_small(sock)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", proxy.data_port))
    return await asyncio.open_connection(sock=sock)


async def warm(proxy: Proxy, kind: str) -> None:
    """Memory that a first request allocates once is not growth."""
    for _ in range(20):
        reader, writer = await connect(proxy)
        writer.write(asked("GET", f"/{kind}/", "Connection: close"))
        assert (await reader.read()).endswith(b"ok")
        writer.close()


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_a_hundred_stalled_downloads_take_less_than_a_megabyte_each(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy, tmp_path: Path, kind: str
) -> None:
    async with before(oidc_provider, make_proxy, tmp_path) as (proxy, upstream):
        await warm(proxy, kind)
        callers = []
        with watched_memory(proxy.pid) as memory:
            for _ in range(STALLED):
                reader, writer = await connect(proxy)
                writer.write(asked("GET", f"/{kind}/body"))
                assert b"\r\nContent-Length: %d\r\n" % OFFERED in await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(1000) == beginning(1000)
                callers.append((reader, writer))
            moved = -1
            while moved != upstream.moved:
                moved = upstream.moved
                await asyncio.sleep(QUIET)
        assert memory.growth < STALLED * MOST_FOR_A_STREAM, f"grew by {memory.growth / MB:.1f} MB"

        reader, _ = callers[STALLED // 2]
        async with asyncio.timeout(PATIENCE):
            assert await reader.readexactly(READ_ON) == beginning(1000 + READ_ON)[1000:]
        for _, writer in callers:
            writer.transport.abort()


async def send(writer: asyncio.StreamWriter, sent: list[int]) -> None:
    for block in blocks():
        writer.write(block)
        await writer.drain()
        sent[0] += len(block)


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_a_hundred_uploads_that_nobody_reads_take_less_than_a_megabyte_each(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy, tmp_path: Path, kind: str
) -> None:
    async with before(oidc_provider, make_proxy, tmp_path) as (proxy, upstream):
        await warm(proxy, kind)
        sent = [0]  # bytes, by all
        with watched_memory(proxy.pid) as memory:
            uploads = []
            for _ in range(STALLED):
                _, writer = await connect(proxy)
                writer.write(asked("POST", f"/{kind}/body", f"Content-Length: {OFFERED}"))
                uploads.append((writer, asyncio.create_task(send(writer, sent))))
            moved = -1
            while moved != sent[0]:
                moved = sent[0]
                await asyncio.sleep(QUIET)
        assert memory.growth < STALLED * MOST_FOR_A_STREAM, f"grew by {memory.growth / MB:.1f} MB"

        upstream.go_on.set()
        async with asyncio.timeout(PATIENCE):
            assert await upstream.received == beginning(READ_ON)
        for writer, task in uploads:
            task.cancel()
            writer.transport.abort()


# -- idle callers


def allow_files(needed: int) -> None:
    """For this process; a server raises its own limit, as far as the same hard limit permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.fail(
            f"the hard limit of open files (RLIMIT_NOFILE) is {hard}, and {IDLE} callers need {needed}: "
            "raise it with `ulimit -Hn`, LimitNOFILE= or --ulimit nofile=",
            pytrace=False,
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def stay(port: int, count: int, request: bytes, opened: ExitStack) -> list[socket.socket]:
    """A number of callers that connect, send `request` if there is one, get the response, and stay.

    They come from several addresses: one has ports for some 28 000 connections, and others use them too.
    """
    callers = []
    for first in range(0, count, AT_ONCE):
        some = []
        for number in range(first, min(count, first + AT_ONCE)):
            source = f"127.0.0.{2 + number % 8}"
            caller = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0))
            some.append(opened.enter_context(caller))
            if request:
                caller.sendall(request)
        for caller in some:
            assert not request or caller.recv(4096).endswith(b"ok")
        callers += some
    return callers


@pytest.mark.parametrize("request_first", [True, False], ids=["after a request each", "that never asked"])
async def test_ten_thousand_idle_callers_take_ten_kibibytes_each_or_less(
    oidc_provider: AuthorizationServer, make_proxy: MakeProxy, tmp_path: Path, request_first: bool
) -> None:
    allow_files(FILES)
    async with before(oidc_provider, make_proxy, tmp_path) as (proxy, _):
        await warm(proxy, "plain")
        request = asked("GET", "/plain/") if request_first else b""
        with ExitStack() as opened:
            await asyncio.to_thread(stay, proxy.data_port, AT_ONCE, asked("GET", "/plain/"), opened)
        grown_from = resident(proxy.pid)
        with ExitStack() as opened:
            callers = await asyncio.to_thread(stay, proxy.data_port, IDLE, request, opened)
            await until_open(proxy, IDLE)
            growth = resident(proxy.pid) - grown_from
            assert growth <= IDLE * MOST_FOR_A_CALLER, f"{growth / IDLE / 1024:.1f} KiB each"
            for caller in (callers[0], callers[IDLE // 2], callers[-1]):
                caller.sendall(asked("GET", "/plain/"))
                assert (await asyncio.to_thread(caller.recv, 4096)).endswith(b"ok")


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def until_open(proxy: Proxy, count: int) -> None:
    """Wait until the process has accepted this number of callers."""
    async with asyncio.timeout(PATIENCE):
        while open_files(proxy.pid) < count:
            await asyncio.sleep(0.05)
