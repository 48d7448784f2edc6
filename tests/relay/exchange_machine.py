"""The environment of test_exchange_machine.py: real connections, a controlled clock, and fakes on both ends.

Everything between the caller's socket and the upstream's is the product's: RelayServer, Inbound, Exchange,
Upstream, Pool, Wire, dial. The loop is asyncio's with a clock that only the machine advances, so that an hour
of limits takes no time; the machine controls the tokens and the peers' sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import tempfile
from pathlib import Path
from types import SimpleNamespace

from proxy import tasks
from proxy.config.model import Limits, Log
from proxy.errors import TokenUnavailable
from proxy.hosts import Hosts
from proxy.http.message import HeadLimits
from proxy.observe.metrics import Metrics
from proxy.observe.request_log import RequestLog
from proxy.relay.context import Lasting, RelayContext
from proxy.relay.inbound import Inbound
from proxy.relay.runtime import RouteRuntime
from proxy.relay.server import SWEEP_EVERY, RelayServer
from proxy.routes import RouteTable
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens.attachment import Attachment

RESET = struct.pack("ii", 1, 0)
TURNS = 12  # of the loop, enough for all pending callbacks
LIMITS = Limits(
    token_wait=15.0,
    connect=5.0,
    first_byte=60.0,
    body_stall=300.0,
    header_time=20.0,
    idle=75.0,
    half_closed=2.0,
    spool=64,
)
LONGEST = LIMITS.body_stall + LIMITS.first_byte + 2 * LIMITS.token_wait + LIMITS.connect + 10


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still until it is advanced."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class Odd(Exception):
    """An unexpected exception, raised by the machine."""


class Surprises(logging.Handler):
    """Keeps the unexpected exceptions that were logged, except the machine's own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info and record.exc_info[1]
        if isinstance(error, BaseException) and not isinstance(error, Odd):
            self.found.append(error)


class Tokens:
    """A fake TokenManager. `fresh`: whether a token is ready; awaited calls wait for the machine."""

    def __init__(self) -> None:
        self.current = Attachment(Secret("t0"))
        self.fresh = True
        self.odd = False  # each call raises an unexpected exception
        self.refuses = False  # a 401 passes
        self.waiting: list[asyncio.Future[Attachment]] = []
        self.replacing: list[asyncio.Future[Attachment | None]] = []

    def _check(self) -> None:
        if self.odd:
            raise Odd

    def account(self, credential: str, name: str) -> object:
        return SimpleNamespace(
            key=AccountId(credential, name),
            name=name,
            grant=SimpleNamespace(needs_person=False),
            attachment=None,
        )

    def ready(self, _account: object) -> Attachment | None:
        self._check()
        return self.current if self.fresh else None

    async def get(self, _account: object) -> Attachment:
        self._check()
        future: asyncio.Future[Attachment] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return await future

    def reject(self, _account: object, _attachment: object) -> asyncio.Future[Attachment | None] | None:
        self._check()
        if self.refuses:
            return None
        future: asyncio.Future[Attachment | None] = asyncio.get_running_loop().create_future()
        self.replacing.append(future)
        return future

    def settle(self, outcome: object) -> None:
        """All waiting calls get `outcome`: an exception, None, or an Attachment."""
        for future in self.waiting + self.replacing:
            if future.done():
                continue
            if outcome is None and future in self.waiting:
                future.set_exception(TokenUnavailable("none", retry_after=1))
            elif isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self.waiting.clear()
        self.replacing.clear()


class FlakyLog(RequestLog):
    odd = False

    def add(self, *args: object) -> None:
        if self.odd:
            raise Odd
        super().add(*args)  # type: ignore[arg-type]


class Setting:
    """`caller` and `upstreams` are plain sockets: their actions are complete when a method returns."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self.folder.name) / "up")
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen(16)
        self.listening.setblocking(False)
        self.upstreams: list[socket.socket] = []
        self.callers: list[Caller] = []
        self.tokens = Tokens()
        self.log: list[str] = []
        self.run(self._start())

    async def _start(self) -> None:
        from proxy.config.address import read_upstream
        from proxy.config.model import Route

        route = Route(
            name="up",
            path="/",
            upstream=read_upstream(f"unix:{self.path}:/"),
            credential="cred",
            websocket=True,
        )
        self.metrics = Metrics()
        lasting = Lasting()
        self.runtime = RouteRuntime(
            route,
            LIMITS,
            self.tokens,  # type: ignore[arg-type]
            self.metrics,
            None,
            self.tokens.account("cred", "default"),  # type: ignore[arg-type]
            lasting.heads_of(LIMITS),
            lasting.idle,
        )
        self.context = RelayContext(
            limits=LIMITS,
            head_limits=HeadLimits(8192, 4096, 50),
            hosts=Hosts([]),
            runtimes=[self.runtime],
            table=RouteTable([self.runtime]),
            tokens=self.tokens,  # type: ignore[arg-type]
            metrics=self.metrics,
            log=FlakyLog(Log(level="info", format="json"), self.log.append),
            via=b"token-proxy-0a1b2c3d",
            public_url="http://127.0.0.1",
            lasting=lasting,
        )
        self.server = RelayServer(self.context)
        self.server.start()

    def run(self, work: object) -> object:
        async def bounded() -> object:
            result = await work  # type: ignore[misc]
            for _ in range(TURNS):
                await asyncio.sleep(0)
            return result

        return self.loop.run_until_complete(bounded())

    def turn(self) -> None:
        """Run all pending callbacks."""
        self.run(asyncio.sleep(0))
        self._accept()
        for caller in self.callers:
            caller.read()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listening.accept()
                sock.setblocking(False)
                self.upstreams.append(sock)

    def advance(self, seconds: float, step: float = SWEEP_EVERY) -> None:
        """Advance the clock by one `step` at a time, each with its due callbacks and one sweep."""
        end = self.loop.now + seconds
        while self.loop.now < end:
            self.loop.now = min(end, self.loop.now + step)
            self.turn()

    def connect(self) -> Caller:
        caller = Caller()
        self.callers.append(caller)

        async def accepted() -> None:
            await self.loop.connect_accepted_socket(lambda: Inbound(self.server), caller.theirs)

        self.run(accepted())
        return caller

    def close(self) -> None:
        self.run(self.server.close())
        self.turn()
        for each in (*self.upstreams, *(caller.sock for caller in self.callers), self.listening):
            each.close()
        self.run(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        self.folder.cleanup()


class Caller:
    """One end of a TCP connection, whose other end the proxy has accepted."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.sock = socket.create_connection(server.getsockname())
            self.theirs, _ = server.accept()
        self.theirs.setblocking(False)
        self.sock.setblocking(False)
        self.received = b""
        self.ended = ""  # how the proxy has ended the connection
        self.left = False  # the caller has ended it
        self.asked = 0  # complete requests
        self.owes = 0  # bytes of a body

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.send(data)

    def read(self) -> None:
        while not self.ended and self.sock.fileno() >= 0:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                self.ended = "reset"
                return
            if not data:
                self.ended = "closed"
            self.received += data

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self.left = True

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()
        self.left = True


def tasks_left() -> set[str]:
    """Names of the product's tasks that still run, except the sweep."""
    return {task.get_name() for task in tasks._running} - {"sweep deadlines"}


__all__ = ["LIMITS", "LONGEST", "Attachment", "Odd", "Setting", "Surprises", "tasks_left"]
