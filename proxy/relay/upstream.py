"""One connection to an upstream: frames the request, and finds where the response begins and ends.

It uses the loop's reader and writer callbacks: half the cost of asyncio's TLS transport (see bench/). Data
that arrives on an idle connection is a response to no request, and closes it (RFC 9112 section 9.2).

Nothing is postponed to a further event. A reset that comes with data is reported once: uvloop then calls the
reader one last time. So an event is read to its end (EAGAIN, an end or an error) unless the response is
complete before that; such a reset is noticed at the next `send`, or by the pool's probe.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from proxy.failure_causes import Cause, cause_of
from proxy.http.body import NO_BODY, Body, UntilClose
from proxy.http.framing import framed
from proxy.http.malformed import MalformedBody, MalformedResponse
from proxy.http.message import END, PART_OF_END, HeadLimits, ResponseHead
from proxy.http.response_head import check_begun, read_response
from proxy.relay import decisions, upstream_causes
from proxy.relay.failures import Failure
from proxy.relay.idle import Idle
from proxy.relay.interfaces import ResponseHandler
from proxy.relay.wire import Wire, failure_of

if TYPE_CHECKING:
    from proxy.relay.pool import Pool

HIGH_WATER: Final = 65536  # queued bytes above which the caller is not read
READS: Final = 8  # most reads in one turn of the loop, so that one connection does not delay the others

_log = logging.getLogger("proxy.relay")


class Upstream(Idle):
    """An open connection. From `start` to the response's end or failure it belongs to one exchange."""

    __slots__ = (
        *("_body", "_broken", "_buffer", "_ending", "_fd", "_handler", "_head", "_held", "_interims"),
        *("_limits", "_loop", "_method", "_out", "_paused", "_pool", "_queued", "_request_body"),
        *("_searched", "_unsent", "_wire", "reused"),
    )

    def __init__(self, wire: Wire, pool: Pool, limits: HeadLimits) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._wire = wire
        self._fd = wire.sock.fileno()
        self._pool = pool
        self._limits = limits
        self._handler: ResponseHandler | None = None
        self._method = b""
        self._request_body: Body = NO_BODY
        self._buffer = b""  # received, not yet parsed
        self._searched = 0  # bytes of the buffer in which no end of a head was found
        self._head: ResponseHead | None = None
        self._body: Body = NO_BODY
        self._interims = 0  # bytes of 1xx responses; with the head, at most `header_size`
        self._out: deque[bytes] = deque()
        self._queued = 0  # bytes in it
        self._paused = False
        self._held = False  # the data after the head is kept in the buffer until `resume`
        self._broken = False  # a send has failed: only data that is here already can still be read
        self._unsent = False  # the first send of this request failed
        self._ending = False  # our side ends once the queue is sent
        self.reused = False  # it has been idle, or in use: the upstream may have closed it
        pool.opened(self)
        self._loop.add_reader(self._fd, self._readable)
        if wire.has_more:
            self._loop.call_soon(self._readable)

    # -- sending

    def start(self, handler: ResponseHandler, method: bytes, head: bytes) -> None:
        """Send a request without a body; its response goes to `handler`."""
        self._request_body = NO_BODY
        self._start(handler, method, head)

    def start_with_body(
        self, handler: ResponseHandler, method: bytes, head: bytes, body: Body, payload: bytes
    ) -> None:
        """The same with a body: `payload` is its beginning, `send` takes the rest."""
        self._request_body = body
        self._start(handler, method, head + framed(body, payload))

    def send(self, payload: bytes) -> None:
        """Send more of the request's body, or of a tunnel. Once the body is done, its end is sent too."""
        data = framed(self._request_body, payload)
        if data:
            self._write(data)

    def end(self) -> None:
        """In a tunnel: end our side."""
        self._ending = True
        if not self._out and self._fd >= 0:
            self._wire.end()

    @property
    def is_full(self) -> bool:
        return self._queued > HIGH_WATER

    def _start(self, handler: ResponseHandler, method: bytes, data: bytes) -> None:
        self._handler, self._method = handler, method
        self._head, self._interims = None, 0
        self._write(data)
        self._unsent = self._broken

    def _write(self, data: bytes) -> None:
        """Send `data`, or keep what the kernel does not take now."""
        if self._fd < 0 or self._broken:
            return
        try:
            encoded = self._wire.encode(data)
            sent = 0 if self._out else self._wire.send(encoded)
        except OSError:
            self._stop_sending()
            return
        if sent < len(encoded):
            if not self._out:
                self._loop.add_writer(self._fd, self._writable)
            self._out.append(encoded[sent:])
            self._queued += len(encoded) - sent

    def _writable(self) -> None:
        handler = self._handler
        try:
            self._send_queued()
            if not self._out and self._fd >= 0:
                self._loop.remove_writer(self._fd)
                if self._ending and not self._broken:
                    self._wire.end()
            if handler is not None:
                handler.upstream_drained()
        except Exception as error:  # noqa: BLE001 (as above)
            self._fail_unexpectedly(handler, error)

    def _send_queued(self) -> None:
        while self._out:
            data = self._out.popleft()
            try:
                sent = self._wire.send(data)
            except OSError:
                self._stop_sending()
                return
            self._queued -= sent
            if sent < len(data):
                self._out.appendleft(data[sent:])
                return

    def _stop_sending(self) -> None:
        """A send failed. A response may have come all the same: read what has been received."""
        self._broken = True
        self._out.clear()
        self._queued = 0
        self._loop.call_soon(self._readable)

    # -- receiving

    def pause(self) -> None:
        """Read no more until `resume`: the caller is slow, or a 401 is held."""
        if not self._paused and self._fd >= 0:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        if not self._paused or self._fd < 0:
            return
        self._paused = False
        self._loop.add_reader(self._fd, self._readable)
        self._loop.call_soon(self._readable)  # data received before the pause raises no event

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def probe(self) -> None:
        """Check whether an idle connection has ended."""
        if self._handler is None:
            self._readable()

    def _readable(self) -> None:
        handler = self._handler
        try:
            self._read()
        except Exception as error:  # noqa: BLE001 (whatever it is, it ends this exchange and no other)
            self._fail_unexpectedly(handler, error)

    def _read(self) -> None:
        """Read up to the response's end, or until the kernel has no more."""
        handler = self._handler
        if self._held and not self._paused and self._fd >= 0:
            self._held = False
            self._received(b"")
        for _ in range(READS):
            if self._paused or self._fd < 0 or self._handler is not handler:
                return
            try:
                data = self._wire.receive()
            except OSError as error:
                failure = failure_of(error)  # a renegotiation is a cause by itself, its errno is ours
                self._ended(failure, None if failure is Failure.RENEGOTIATION else cause_of(error))
                return
            if data is None:
                if self._broken:
                    self._ended(Failure.ENDED)
                return
            if not data:
                self._end_of_input()
                return
            self._received(data)
            if self._handler is not handler:  # the response is complete; another request may be on its way
                return
        self._loop.call_soon(self._readable)

    def _received(self, data: bytes) -> None:
        handler = self._handler
        if handler is None:
            self.close()
            return
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        try:
            rest = data if self._head is not None else self._read_heads(data, handler)
            if rest is not None:
                self._read_body(rest, handler)
        except (MalformedResponse, MalformedBody) as error:
            self._fail(Failure.MALFORMED, upstream_causes.of_malformed(error))

    def _read_heads(self, data: bytes, handler: ResponseHandler) -> bytes | None:
        """Parse up to the body; returns its beginning, or None if more data or a `resume` must come first."""
        while self._head is None:
            end = data.find(END, self._searched)
            size = len(data) - PART_OF_END if end < 0 else end
            if self._interims + size > self._limits.header_size:
                raise MalformedResponse("its head is too large", "too-large")
            if end < 0:
                check_begun(data, self._searched)
                self._buffer = data
                self._searched = max(0, size)
                return None
            self._searched = 0
            head = read_response(data[: end + 4], self._method, self._limits)
            data = data[end + 4 :]
            if head.status < 200:
                self._interims += end
                self._informed(head, handler)
            else:
                self._head = head
                self._body = head.body()
                handler.response_head(head)
        if self._paused:
            self._buffer, self._held = data, True
            return None
        return data if self._fd >= 0 else None

    def _informed(self, head: ResponseHead, handler: ResponseHandler) -> None:
        """A 1xx response (RFC 9110 section 15.2): another one follows, but for 101."""
        if head.status != 101:
            handler.informed(head)
            return
        if not handler.upgrades:
            raise MalformedResponse("it switches protocols unasked")
        self._head, self._body = head, UntilClose()
        handler.switched(head)

    def _read_body(self, data: bytes, handler: ResponseHandler) -> None:
        body = self._body
        payload, rest = body.feed(data)
        if body.done:
            is_kept = self._complete(nothing_behind=not rest)
            handler.response_end(payload, body)
            if is_kept:
                self._pool.give(self)  # last, as it may begin the next exchange
        else:
            handler.response_data(payload)

    def _complete(self, *, nothing_behind: bool) -> bool:
        """Returns whether the connection can be used again; if not, it is closed."""
        assert self._head is not None
        # else the next request would be read as the rest of this one, or get no response
        sent_whole = self._request_body.done and not self._out and not self._broken
        self._handler = None
        if nothing_behind and sent_whole and self._head.keep_alive and not self._wire.ended:
            self.idle_since = self._loop.time()
            return True
        decisions.not_kept(nothing_behind=nothing_behind, sent_whole=sent_whole)
        self.close()
        return False

    # -- the end

    def _end_of_input(self) -> None:
        """The upstream has ended its side."""
        handler, head = self._handler, self._head
        # after a failed send, a reset reads like an end
        if handler is None or head is None or self._broken or not self._body.end_of_input():
            self._ended(Failure.ENDED)
        elif head.status == 101:
            self._loop.remove_reader(self._fd)
            handler.upstream_ended()
        else:
            self._handler = None
            self.close()
            handler.response_end(b"", self._body)

    def _ended(self, failure: Failure, cause: Cause | None = None) -> None:
        if failure is Failure.ENDED and self._head is None and not self._buffer and not self._interims:
            failure = Failure.UNSENT if self._unsent else Failure.EARLY
        self._fail(failure, cause)

    def _fail(self, failure: Failure, cause: Cause | None) -> None:
        handler, self._handler = self._handler, None
        self.close()
        if handler is not None:
            handler.upstream_failed(failure, cause)

    def _fail_unexpectedly(self, handler: ResponseHandler | None, error: Exception) -> None:
        self.close()
        if handler is not None:
            handler.fail(error)
        else:
            _log.error("an idle connection to an upstream failed unexpectedly", exc_info=error)

    def close(self) -> None:
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._fd = -1
        self._handler = None
        self._pool.closed(self)
        if self._out:  # a record may have been sent in part: close_notify after it would be unreadable
            self._wire.sock.close()
        else:
            self._wire.close()
