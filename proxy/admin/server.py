"""The server of the admin listener, and of the health listener: aiohttp's, with limits and errors of our own.

Any user of this machine can connect, and beyond loopback anyone. Each phase of a connection has a time, each
header a size, and there are at most `limits.admin_connections` (`limits.health_connections`) of them, or as
many as their share of the reserve of open files.

At that limit a new connection takes the place of one that waits for its peer: for a request, for the rest
of a body, or for a response to be read. So idle connections, however many, keep nobody out: the newcomer may
be a person, and a browser whose idle connection is closed opens another. Of the peer with the most
connections (see `group_of`: each user of this machine is one), the one that has waited longest is closed. A
connection whose request is being handled is never closed for another, unless its request waits for a turn. If
there are no others, newcomers wait in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal, cast

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, StreamReader, http_exceptions, web
from aiohttp.http import RawRequestMessage

from proxy import tasks
from proxy.accept import Gate
from proxy.admin import own_errors
from proxy.admin.peer_group import group_of
from proxy.config.limits import Limits
from proxy.fd_limits import LOG_EVERY, Descriptors
from proxy.observe.events import WARNING, event

REQUEST_TIME: Final = 120.0  # seconds from a request's header to its response's end; logins take 40 at most
STREAM_TIME: Final = 1200.0  # seconds; a stream of events ends itself before (live.py)
LINGER: Final = 2.0  # seconds to read on behind an error: closed at once, the peer might lose the response
SHUTDOWN: Final = 2.0  # seconds for a page that is being sent when the process ends

ListenerName = Literal["admin", "health"]

_log = logging.getLogger("proxy.admin")


class Phase(enum.Enum):
    HANDSHAKE = "accepted; with TLS, until the handshake is done"
    HEAD = "for a request's header, on a new connection or after its first byte"
    IDLE = "between two requests"
    REQUEST = "a request is being handled"
    QUEUED = "a request waits for its turn"
    STREAM = "a response that goes on as long as its page is open"
    LEAVING = "the last response is written, and what still comes is ignored"
    GONE = "closed, or about to be"


class AdminRunner(web.AppRunner):
    """Runs an application on an AdminServer."""

    __slots__ = ("_files", "_limits", "_listener")

    def __init__(
        self,
        app: web.Application,
        limits: Limits,
        files: Descriptors,
        *,
        listener: ListenerName = "admin",
        shutdown: float = SHUTDOWN,
    ) -> None:
        super().__init__(app, shutdown_timeout=shutdown)
        self._limits = limits
        self._files = files
        self._listener = listener

    async def _make_server(self) -> AdminServer:  # aiohttp has no other way to choose the class of the server
        made = await super()._make_server()
        return AdminServer(
            made.request_handler, made.request_factory, self._limits, self._files, self._listener
        )


class AdminServer(web.Server, Gate):
    """The connections of one listener. `handler` and `factory`: of an aiohttp application."""

    def __init__(
        self,
        handler: Callable[..., Any],
        factory: Callable[..., Any],
        limits: Limits,
        files: Descriptors,
        listener: ListenerName,
    ) -> None:
        super().__init__(self._handle, request_factory=self._begin)
        self._handler = own_errors.replacing_errors(handler)
        self.limits = limits
        self._factory = factory
        self._files = files
        self._share = files.admin if listener == "admin" else files.health
        self.listener = listener
        self._open: set[AdminConnection] = set()
        self._logged_at = float("-inf")

    def serve_instead(self, other: AdminServer) -> None:
        """Serve the application of another server, which does not listen, from the next request on."""
        self._handler, self._factory, self.limits = other._handler, other._factory, other.limits

    def __call__(self) -> web.RequestHandler:
        raise AssertionError("connections are made by `admit`")

    def has_room(self) -> bool:
        return len(self._open) < self._share.most or self._most_dispensable() is not None

    def admit(self, sock: socket.socket) -> AdminConnection:
        if len(self._open) >= self._share.most:
            self._log_limit()
            if dispensable := self._most_dispensable():
                dispensable.abort()
        connection = AdminConnection(self, sock)
        self._open.add(connection)
        self._share.open = len(self._open)
        return connection

    def failed(self, protocol: asyncio.Protocol) -> None:
        assert isinstance(protocol, AdminConnection)
        protocol.abort()

    def out_of_files(self) -> None:
        self._files.log_refusal()

    def left(self, connection: AdminConnection) -> None:
        self._open.discard(connection)
        self._share.open = len(self._open)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 (aiohttp's signature)
        await super().shutdown(timeout)
        for connection in list(self._open):
            connection.abort()

    def _most_dispensable(self) -> AdminConnection | None:
        held = Counter(connection.peer for connection in self._open)
        waiting = (connection for connection in self._open if connection.is_dispensable)
        return max(waiting, key=lambda each: (held[each.peer], -each.since), default=None)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        expected = request.headers.get("Expect", "")
        if request.version >= HttpVersion11 and expected.lower() not in {"", "100-continue"}:
            assert isinstance(request.protocol, AdminConnection)
            return _LastResponse(request.protocol, 417)  # aiohttp would quote it, or fail if it is not UTF-8
        assert isinstance(request, web.Request)
        return await self._handler(request)

    def _begin(
        self, message: RawRequestMessage, payload: StreamReader, protocol: web.RequestHandler, *more: object
    ) -> web.BaseRequest:
        assert isinstance(protocol, AdminConnection)
        protocol.begin(payload)
        request: web.BaseRequest = self._factory(message, payload, protocol, *more)
        return request

    def _log_limit(self) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            count = len(self._open)
            name = self.listener
            sentence = f"the {name} listener has {count} connections, its limit: idle ones are closed"
            event(_log, WARNING, "connections_full", sentence, listener=name, connections=count)


class AdminConnection(web.RequestHandler):
    """One connection: its phase, the time of that, and the size of its header."""

    __slots__ = ("_head_size", "_payload", "_peer", "_phase", "_server", "_sock", "_timer", "_wire", "since")

    def __init__(self, server: AdminServer, sock: socket.socket) -> None:
        limits = server.limits
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # a target may hold an authorization code
            max_line_size=limits.field_size,
            max_field_size=limits.field_size,
            max_headers=limits.fields,
            lingering_time=LINGER,
            auto_decompress=False,  # no form of ours is compressed
        )
        self._server = server
        self._sock = sock
        self._peer: str | None = None
        self._wire: asyncio.Transport | None = None  # unlike self.transport, kept until it is closed
        self._payload: StreamReader = EMPTY_PAYLOAD  # of the last request, handled or not
        self._head_size = 0  # bytes of headers received since the last request was taken up
        self._timer: asyncio.TimerHandle | None = None
        self._phase = Phase.HANDSHAKE
        self._enter(Phase.HANDSHAKE)

    @property
    def peer(self) -> str:
        """Looked up when it is first asked for, at the limit of connections: it takes some system calls."""
        if self._peer is None:
            self._peer = group_of(self._sock)
        return self._peer

    @property
    def is_dispensable(self) -> bool:
        if self._phase is Phase.REQUEST:
            return self.writing_paused or not self._payload.is_eof()
        return self._phase is not Phase.GONE

    @contextmanager
    def within(self, phase: Literal[Phase.QUEUED, Phase.STREAM]) -> Iterator[None]:
        """Within the block its request is in this phase, and the connection may be closed for another."""
        self._enter(phase)
        try:
            yield
        finally:
            self._enter(Phase.REQUEST)

    def begin(self, payload: StreamReader) -> None:
        """A request is taken up."""
        self._payload = payload
        if not self._messages:  # aiohttp's queue of pipelined requests, which it does not show otherwise
            self._head_size = 0
        self._enter(Phase.REQUEST)

    def abort(self) -> None:
        """Close at once, with whatever is not sent yet."""
        self._enter(Phase.GONE)
        if self._wire is not None:
            self._wire.abort()
        else:  # in its handshake: whatever reads it sees its end
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def leave(self, response: bytes) -> None:
        """Send the last response, and ignore what still comes."""
        if self._wire is None or self._wire.is_closing():
            return
        self._enter(Phase.LEAVING)
        self.transport = None  # so that aiohttp, which has nothing more to do, does not close it
        self.force_close()
        self._wire.write(response)
        if self._wire.can_write_eof():
            self._wire.write_eof()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("asyncio.Transport", transport)
        if self._phase is Phase.GONE:
            self._wire.abort()
            return
        super().connection_made(transport)
        self._enter(Phase.HEAD)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._enter(Phase.GONE)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._phase in {Phase.LEAVING, Phase.GONE}:
            return
        # of a body: its reader stops the transport when it has enough
        if not data or not self._payload.is_eof():
            super().data_received(data)
            return
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        room = self._server.limits.header_size - self._head_size
        piece, rest = data[:room], data[room:]
        self._head_size += len(piece)
        self._parse(piece)
        if rest and not self._payload.is_eof():
            super().data_received(rest)
        elif rest and (self._phase is Phase.REQUEST or self._messages):
            self.abort()  # more pipelined requests than anything sends
        elif rest:
            self.leave(own_errors.raw(431))

    def _parse(self, data: bytes) -> None:
        """Feed a part of a header, and notice the body that follows it."""
        before = self._request_count  # counts the headers that are complete; aiohttp shows it nowhere else
        super().data_received(data)
        if self._request_count != before and self._messages:
            self._payload = self._messages[-1][1]

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        if self._phase is Phase.REQUEST:
            self._enter(Phase.IDLE)
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 (it quotes the request)
    ) -> web.StreamResponse:
        """The response to a request that can't be read, or to an exception that no page has handled."""
        if isinstance(exc, ConnectionError):  # the peer has gone: aiohttp ends the connection
            raise exc
        if isinstance(exc, http_exceptions.LineTooLong):
            status = 431
        elif isinstance(exc, http_exceptions.HttpProcessingError):
            status = 400
        elif exc is not None:
            tasks.report("admin page", exc, f"the {self._server.listener} listener failed")
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another response has been sent")
        return _LastResponse(self, status)

    def log_exception(self, *_: Any, exc_info: object = None, **__: Any) -> None:
        """Called by aiohttp for an exception that it does not expect. Without a peer there are some."""
        if self.transport is not None and isinstance(exc_info, BaseException):
            tasks.report("admin page", exc_info, f"the {self._server.listener} listener failed")

    def _enter(self, phase: Phase) -> None:
        if self._phase is Phase.GONE:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._phase is Phase.STREAM and phase is Phase.GONE and self._task_handler is not None:
            self._task_handler.cancel()  # it would only notice at the next event
        self._phase = phase
        self.since = time.monotonic()  # uvloop's own clock counts in milliseconds: too few to tell an order
        if phase is Phase.GONE:
            self._server.left(self)
            return
        times = {Phase.REQUEST: REQUEST_TIME, Phase.STREAM: STREAM_TIME, Phase.LEAVING: LINGER}
        seconds = times.get(phase, self._server.limits.admin_header_time)
        self._timer = self._loop.call_later(seconds, self.abort)


class _LastResponse(web.Response):
    """Written as it is: aiohttp would add its name, and the HTTP version of a request that it can't read."""

    def __init__(self, connection: AdminConnection, status: int) -> None:
        super().__init__(status=status)
        self.force_close()
        self._connection = connection

    async def prepare(self, _request: web.BaseRequest) -> None:
        self._connection.leave(own_errors.raw(self.status))

    async def write_eof(self, data: bytes = b"") -> None: ...
