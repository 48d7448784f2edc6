"""A caller's connection: where its messages begin and end, one exchange at a time.

data ──► head complete? ──► Exchange ──► (its body) ──► response ──► next head, or the end
            │ no: wait, within limits        pipelined bytes wait in `_heads`

It feeds the request's body and keeps the bytes after it, frames the response, and decides whether the
connection stays open.
"""

from __future__ import annotations

import asyncio
import logging

from proxy.http import head_writer
from proxy.http.body import UNTIL_CLOSE, Body, UntilClose, encode_chunk
from proxy.http.framing import framed
from proxy.http.head_reader import HeadReader
from proxy.http.malformed import MalformedBody, MalformedRequest
from proxy.http.message import END, RequestHead, ResponseHead
from proxy.http.request_head import read_request
from proxy.relay import decisions, phases, problems
from proxy.relay.connection import HIGH_WATER, IDLE_AT_STOP, NEVER, ConnectionOwner
from proxy.relay.context import SHARED
from proxy.relay.exchange import Exchange
from proxy.relay.half_closed import HalfClosable
from proxy.relay.problems import Refusal

_log = logging.getLogger("proxy.relay")


class Inbound(HalfClosable):
    __slots__ = (
        "_chunked",
        "_closing",
        "_head",
        "_heads",
        "_request",
        "listener",
    )

    def __init__(self, server: ConnectionOwner, listener: int = SHARED) -> None:
        super().__init__(server)
        self.listener = listener  # its number: see RelayContext.own
        self._heads = HeadReader()  # also holds the bytes received after the current request
        self._request: RequestHead | None = None  # of the exchange
        self._head = b""  # of the response, until it is sent with the first payload
        self._chunked = False  # how the response is framed
        self._closing = False  # the connection ends with the response

    # -- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._use(transport)
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            if self._body is not None:
                self._feed(self._body, data)
            elif self._exchange is not None:
                self._keep(data)
            elif self._lingering:
                self._unread(len(data))
            else:
                self._next(data)
        except Exception as error:  # noqa: BLE001 (whatever it is, it ends this connection and no other)
            self.fail(error)

    def eof_received(self) -> bool:
        """The caller has ended its side. Returns whether it may still get a response (not over TLS)."""
        self._eof = True
        exchange = self._exchange
        try:
            if exchange is None:
                return END in self._heads.buffer  # the next request waits for its turn
            if self._body is None:
                self._await_end(exchange)
            elif self._body.end_of_input():  # a tunnel
                exchange.caller_ended()
            else:
                self._leave()
        except Exception as error:  # noqa: BLE001
            self.fail(error)
        return not self.is_tls and not self._transport.is_closing()

    def connection_lost(self, _error: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        self._body = None
        self._server.closed(self)
        try:
            if exchange is not None:
                exchange.abandon()
        except Exception as error:  # noqa: BLE001
            _log.error("a request whose caller has gone failed unexpectedly", exc_info=error)

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        try:
            if self._exchange is not None:
                self._exchange.caller_drained()
        except Exception as error:  # noqa: BLE001
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """An unexpected exception ends this exchange, or this connection."""
        if self._exchange is not None:
            self._exchange.fail(error)
            return
        _log.error("a connection failed unexpectedly", exc_info=error)
        self._server.context.metrics.refused.labels(problems.INTERNAL_ERROR.ending).inc()
        self.abort()

    # -- Downstream, for the exchange

    def inform(self, head: ResponseHead) -> None:
        if not self._asked.fields.http10:
            self._write(head_writer.to_caller(head, chunked=False, close=False))
            self._relayed()

    def respond(self, head: ResponseHead) -> None:
        old = self._asked.fields.http10
        self._chunked = head.chunked and not old
        # a body without a length or chunks ends with the connection
        until_close = head.framing == UNTIL_CLOSE or (head.chunked and old)
        self._closing = until_close or self._is_last
        self._head = head_writer.to_caller(head, chunked=self._chunked, close=self._closing)

    def send(self, payload: bytes) -> None:
        data = encode_chunk(payload) if self._chunked and payload else payload
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self._write(data)
            if self._gone_at != NEVER:
                self._relayed()

    def finish(self, payload: bytes, body: Body) -> None:
        data = framed(body, payload) if self._chunked else payload
        data, self._head = self._head + data, b""
        if data:
            self._write(data)
        self._done(close=self._closing)

    def switch(self, head: ResponseHead) -> None:
        self._write(head_writer.switched(head))
        self._closing, self._chunked = True, False
        self._gone_at = NEVER
        self._body = UntilClose()
        kept = self._heads.take()
        if kept:
            self._feed(self._body, kept)
        self.read_on(wanted=True)
        if self._eof and self._exchange is not None:
            self._exchange.caller_ended()

    def refuse(self, refusal: Refusal) -> None:
        close = refusal.case.closes or self._is_last
        head_only = self._asked.method == b"HEAD"
        public_url, page = self._server.context.public_url, self._asked.page
        self._write(problems.render(refusal, public_url, head_only=head_only, close=close, page=page))
        self._done(close=close)

    def about_us(self, head: bytes, body: bytes = b"") -> None:
        close = self._is_last  # the rest of a body must not be read as a request
        end = b"Connection: close\r\n\r\n" if close else b"\r\n"
        self._write(head + end + (b"" if self._asked.method == b"HEAD" else body))
        self._done(close=close)

    def close(self) -> None:
        self._body = None
        self._done(close=True)

    @property
    def _asked(self) -> RequestHead:
        assert self._request is not None
        return self._request

    @property
    def _is_last(self) -> bool:
        """Whether the connection must end with the response, whatever its framing."""
        unread = self._body is not None
        is_last = unread or not self._asked.fields.keep_alive
        return is_last or self._server.context.is_closed(self.listener)

    def _done(self, *, close: bool) -> None:
        """The exchange is over, and its response is on its way."""
        self._exchange = None
        unread, self._body = self._body is not None, None
        self._gone_at = NEVER
        context = self._server.context
        is_removed = context.is_closed(self.listener) and not context.draining
        if close or is_removed or (self._eof and END not in self._heads.buffer):
            self._close(linger=unread)
            return
        self._patience = IDLE_AT_STOP if context.draining else context.limits.idle
        if not self._reading:
            self.read_on(wanted=True)
        if self._heads.buffer:
            asyncio.get_running_loop().call_soon(self._go_on)

    # -- messages

    def _go_on(self) -> None:
        try:
            if self._exchange is None and not self._transport.is_closing() and self._heads.buffer:
                self._next(self._heads.take())
        except Exception as error:  # noqa: BLE001
            self.fail(error)

    def _keep(self, data: bytes) -> None:
        """Keep bytes received after the current request for the next one."""
        self._heads.buffer += data
        self.read_on(wanted=len(self._heads.buffer) <= HIGH_WATER)

    def _feed(self, body: Body, data: bytes) -> None:
        """Pass on more of the request's body, or of a tunnel; keep any bytes after it."""
        exchange = self._exchange
        assert exchange is not None
        try:
            payload, rest = body.feed(data)
        except MalformedBody:
            exchange.malformed()
            return
        if body.done:
            self._body = None
        exchange.request_data(payload)
        if rest:
            self._keep(rest)

    def _next(self, data: bytes) -> None:
        """`data` is the beginning of a request, or continues its head."""
        heads, context = self._heads, self._server.context
        is_new = not heads.buffer
        try:
            found = heads.read(data, context.head_limits.header_size)
        except MalformedRequest as error:
            self.turn_away(problems.of_malformed(error), heads.buffer)
            return
        if found is not None:
            self._begin(*found)
        elif self._eof:
            self._transport.close()
        elif is_new and heads.buffer:
            self._patience = context.limits.header_time

    def _begin(self, head: bytes, rest: bytes) -> None:
        context = self._server.context
        if self.listener != SHARED and self.listener not in context.own:
            self._transport.close()  # the listener was removed a moment ago
            return
        try:
            request = read_request(head, context.head_limits)
        except MalformedRequest as error:
            self.turn_away(problems.of_malformed(error), head)
            return
        self._request = request
        exchange = self._exchange = Exchange(self, context, request)
        payload = b""
        if request.body is not None:
            try:
                payload, rest = request.body.feed(rest)
            except MalformedBody:
                self._body = request.body
                exchange.malformed()
                return
            self._body = None if request.body.done else request.body
        if rest:
            self._heads.buffer += rest
        exchange.begin(context.own.get(self.listener), payload)
        if exchange.phase is not phases.OVER:
            if len(self._heads.buffer) > HIGH_WATER:
                self.read_on(wanted=False)
            if self._eof and self._body is None:
                self._await_end(exchange)
            elif self._eof:
                self._leave()  # the rest of the body will never come

    def turn_away(self, refusal: Refusal, head: bytes | bytearray = b"") -> None:
        """Refuse without an exchange, then close. `head`: the part of the request's head received, if any."""
        context = self._server.context
        context.count_refused(refusal, routed=False)
        decisions.refused(0, refusal)
        if context.audit is not None:
            sent = len(refusal.body(context.public_url))
            context.audit.unread(self.peer_name, refusal.case.ending, refusal.case.status, sent)
        head_only = head.startswith(b"HEAD ")  # RFC 9110 section 9.3.2, even for a malformed head
        self._write(problems.render(refusal, context.public_url, head_only=head_only, close=True))
        self._close(linger=True)

    # -- the end

    def check(self, now: float) -> None:
        """Check all deadlines; called by each sweep with the loop's time, in seconds."""
        unsent = self._transport.get_write_buffer_size()
        exchange = self._exchange
        if exchange is None:
            is_over = now > self._deadline and not self._patience
            if not (is_over and not self._heads.buffer and self._has_news):
                self._check_deadline(now, progress=unsent < self._unsent)
        else:
            if unsent < self._unsent:
                exchange.caller_took()
                self._relayed()
            self._check(exchange, now)
        self._unsent = unsent

    def _check(self, exchange: Exchange, now: float) -> None:
        if self._eof or not self._reading:
            self._look_for_end(exchange)
        if self._exchange is not exchange:
            return
        if now > self._gone_at:
            self._leave()
        elif now > exchange.deadline:
            exchange.give_up()

    @property
    def exchange(self) -> Exchange | None:
        return self._exchange

    def drain(self) -> None:
        """Let the exchange end, then close; the response says so."""
        if self._exchange is None and not self._heads.buffer:
            self._end_soon(is_new=self._request is None)

    def cut(self) -> None:
        """The time for draining is over."""
        if self._exchange is None:
            self._transport.close()
        else:
            self.abort()
