"""A caller's connection: where its messages begin and end, one exchange at a time.

data ──► head complete? ──► Exchange ──► (its body) ──► answer ──► next head, or the end
            │ no: wait, within limits        pipelined bytes wait in `_buffer`
"""

from __future__ import annotations

import asyncio
import re
import socket
import string
import struct
from collections.abc import Callable
from typing import Final, Protocol, cast

from proxy.http.malformed import MalformedBody, MalformedRequest
from proxy.http.message import END, PART_OF_END, read_request
from proxy.relay import problems
from proxy.relay.context import RelayContext
from proxy.relay.exchange import Exchange
from proxy.relay.problems import Refusal
from proxy.relay.runtime import RouteRuntime

HIGH_WATER: Final = 65536  # bytes of answers that a slow caller has not taken, above which none are read
LINGER: Final = 2.0  # seconds to go on reading after an answer to an unread body, lest a reset destroys it
LINGER_BYTES: Final = 2**20  # to read in that time; who has more to send is let wait for the end
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of no time: the kernel says RST instead of FIN
MOST_EMPTY_LINES: Final = 2  # before a request; RFC 9112 section 2.2 wants one ignored
FIRST_BYTES: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789" + string.ascii_letters.encode())  # of a method
# No head that has one is a request: who speaks like that hears so at once, and not when its time is over.
BARE_LF: Final = re.compile(rb"(?<!\r)\n")
EMPTY: Final = frozenset({b"\r", b"\r\n"})
NEVER: Final = float("inf")


class ConnectionOwner(Protocol):
    """Who keeps the connections (server.py)."""

    context: RelayContext

    def opened(self, connection: Inbound) -> None: ...

    def closed(self, connection: Inbound) -> None: ...


class Inbound(asyncio.Protocol):
    __slots__ = (
        "_buffer",
        "_deadline",
        "_empty_lines",
        "_eof",
        "_exchange",
        "_lingered",
        "_lingering",
        "_patience",
        "_reading",
        "_runtime",
        "_searched",
        "_server",
        "_transport",
        "_unsent",
        "is_full",
        "is_tls",
        "local_address",
        "write",
    )

    def __init__(self, server: ConnectionOwner, runtime: RouteRuntime | None) -> None:
        self._server = server
        self._runtime = runtime  # the route that has this listener to itself
        self._transport = cast("asyncio.Transport", None)
        self.write: Callable[[bytes], None] = _nowhere
        self._buffer = bytearray()
        self._searched = 0  # where in the buffer to look for the end of a head
        self._empty_lines = 0
        self._exchange: Exchange | None = None
        self._reading = True
        self._eof = False
        self._lingering = False
        self._lingered = 0  # bytes
        self.is_full = False
        self.local_address = ""
        self.is_tls = False
        self._patience = server.context.limits.header_time  # seconds, from the next `check` on; 0: as before
        self._deadline = NEVER  # loop time: for a header, for the next request, or for more of this one
        self._unsent = 0  # bytes that the caller had not taken when `check` last looked

    # -- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self.write = self._transport.write
        self.is_tls = transport.get_extra_info("ssl_object") is not None
        name = transport.get_extra_info("sockname")
        self.local_address = name[0] if isinstance(name, tuple) else ""
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            if self._lingering:
                self._unread(len(data))
            else:
                self._next(data)
        elif exchange.wants_body:
            try:
                exchange.request_data(data)
            except MalformedBody:
                exchange.malformed()
        else:
            self.keep(data)

    def eof_received(self) -> bool:
        """A caller that has closed its half still gets its answer (RFC 9112 section 9.6).

        Once chunks are on their way, an end means that nobody reads them: event streams are left like that.
        """
        self._eof = True
        exchange = self._exchange
        if exchange is None:
            return END in self._buffer  # the next request waits for its turn
        return not exchange.wants_body and not exchange.streams

    def connection_lost(self, _error: Exception | None) -> None:
        self._server.closed(self)
        if self._exchange is not None:
            self._exchange.abort()
            self._exchange = None

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        if self._exchange is not None:
            self._exchange.caller_drained()

    # -- what the exchange asks of its caller

    @property
    def peer_address(self) -> str:
        """The caller's IP address; empty on a unix socket."""
        name = self._transport.get_extra_info("peername")
        return name[0] if isinstance(name, tuple) else ""

    def read_on(self, *, wanted: bool) -> None:
        """Read further from the caller, or don't."""
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def keep(self, data: bytes) -> None:
        """Bytes behind the current request: they wait for their turn."""
        self._buffer += data
        self.read_on(wanted=len(self._buffer) <= HIGH_WATER)

    def hand_over(self) -> None:
        """Give the exchange whatever arrived behind the request: it is not a request."""
        kept, self._buffer = bytes(self._buffer), bytearray()
        if kept and self._exchange is not None:
            self._exchange.request_data(kept)
        self.read_on(wanted=True)

    def exchange_done(self, *, close: bool, unread: bool) -> None:
        """`unread`: a part of the request's body was never read."""
        self._exchange = None
        if close or self._server.context.draining or (self._eof and END not in self._buffer):
            self._close(linger=unread)
            return
        self._patience = self._server.context.limits.idle
        if not self._reading:
            self.read_on(wanted=True)
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._go_on)

    def abort(self) -> None:
        """Cut the connection by a reset: the caller must not take what it has for the whole answer."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._transport.abort()

    # -- messages

    def _go_on(self) -> None:
        if self._exchange is None and not self._transport.is_closing() and self._buffer:
            data, self._buffer = bytes(self._buffer), bytearray()
            self._next(data)

    def _next(self, data: bytes) -> None:
        """`data` begins where a request begins, or goes on with the head in the buffer."""
        known: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            known = self._buffer
        if known[0] not in FIRST_BYTES:
            self._skip_empty_line(bytes(known))
            return
        end = known.find(END, self._searched)
        most = self._server.context.head_limits.header_size
        if (end < 0 or end > most) and BARE_LF.search(known, self._searched, most):
            self.refuse(Refusal(problems.BAD_REQUEST, "lines end in CR LF"), known)
        elif (len(known) - PART_OF_END if end < 0 else end) > most:
            self.refuse(Refusal(problems.HEADER_TOO_LARGE, "the request's head is too large"), known)
        elif end < 0 and self._eof:
            self._transport.close()
        elif end < 0:
            self._wait_for_head(known)
        elif end + 4 == len(data) and known is data:  # nothing but a head, as most are: no copy
            self._begin(data, b"")
        else:
            self._begin(bytes(known[: end + 4]), bytes(known[end + 4 :]))

    def _skip_empty_line(self, data: bytes) -> None:
        if self._eof and data in EMPTY:
            self._transport.close()
            return
        if data == b"\r":
            self._wait_for_head(data)
            return
        self._empty_lines += 1
        if not data.startswith(b"\r\n") or self._empty_lines > MOST_EMPTY_LINES:
            self.refuse(Refusal(problems.BAD_REQUEST, "a request begins with its method"))
            return
        self._buffer = bytearray()
        if data != b"\r\n":
            self._next(data[2:])

    def _wait_for_head(self, known: bytes | bytearray) -> None:
        if not self._buffer:
            self._patience = self._server.context.limits.header_time
            self._buffer = bytearray(known)
        self._searched = max(0, len(known) - PART_OF_END)

    def _begin(self, head: bytes, rest: bytes) -> None:
        if self._buffer:
            self._buffer = bytearray()
        self._searched = self._empty_lines = 0
        context = self._server.context
        try:
            request = read_request(head, context.head_limits)
        except MalformedRequest as error:
            self.refuse(problems.of_malformed(error), head)
            return
        exchange = self._exchange = Exchange(self, context, request)
        try:
            exchange.begin(rest, self._runtime)
        except MalformedBody:
            exchange.malformed()
        if self._eof and exchange.wants_body and not exchange.over:
            self._transport.close()  # the rest of it will never come

    def refuse(self, refusal: Refusal, head: bytes | bytearray = b"") -> None:
        """Answer what is not even a request, and read nothing after it. `head`: what there is of it."""
        self._server.context.count_refused(refusal, routed=False)
        head_only = head.startswith(b"HEAD ")  # RFC 9110 section 9.3.2, even if nothing else is right
        self._transport.write(problems.render(refusal, head_only=head_only, close=True))
        self._close(linger=True)

    # -- the end

    def _close(self, *, linger: bool) -> None:
        if not linger or self._eof or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._lingering = True
        self._buffer = bytearray()
        self._patience = LINGER
        self._transport.write_eof()
        self.read_on(wanted=True)

    def _unread(self, size: int) -> None:
        self._lingered += size
        if self._lingered > LINGER_BYTES:
            self.read_on(wanted=False)

    def check(self, now: float) -> None:
        """Called every now and then, with the loop's time."""
        if self._exchange is not None:
            self._check(self._exchange, now)
        elif self._patience:
            self._deadline, self._patience = now + self._patience, 0.0
        elif now > self._deadline:
            self._transport.close()

    def _check(self, exchange: Exchange, now: float) -> None:
        unsent = self._transport.get_write_buffer_size()
        if exchange.moved or unsent < self._unsent:
            exchange.moved = False
            self._deadline = now + exchange.wait().seconds
        elif now > self._deadline:
            exchange.give_up(exchange.wait())
        self._unsent = unsent

    def drain(self) -> None:
        """Answer what is under way, then close; an idle connection closes now."""
        if self._exchange is None:
            self._transport.close()


def _nowhere(_data: bytes) -> None:
    """Before there is a connection."""
