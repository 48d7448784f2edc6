"""One connection to an upstream, and the pool of idle ones.

Its wire is on the loop's reader and writer: half of what asyncio's TLS transport costs (see bench/). While a
connection is idle, whatever arrives on it is an answer that nobody asked for, and closes it (RFC 9112 section
9.2). It knows where an answer ends and nothing of what is in it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from proxy.http.body import NO_BODY, Body, UntilClose
from proxy.http.malformed import MalformedBody, MalformedResponse
from proxy.http.message import END, PART_OF_END, HeadLimits, ResponseHead, read_response
from proxy.relay.interfaces import ResponseHandler
from proxy.relay.wire import Wire, is_alert

HIGH_WATER: Final = 65536  # bytes waiting to be sent, above which the caller is not read


class Upstream:
    """An open connection. Between `start` and `answer_end` it belongs to one asker."""

    __slots__ = (
        "_body",
        "_buffer",
        "_fd",
        "_handler",
        "_head",
        "_interims",
        "_limits",
        "_loop",
        "_method",
        "_out",
        "_paused",
        "_pool",
        "_queued",
        "_wire",
        "idle_since",
        "reused",
    )

    def __init__(self, wire: Wire, pool: Pool, limits: HeadLimits) -> None:
        self._loop = asyncio.get_running_loop()
        self._wire = wire
        self._fd = wire.sock.fileno()
        self._pool = pool
        self._limits = limits
        self._handler: ResponseHandler | None = None
        self._method = b""
        self._buffer = b""  # received, and not yet read
        self._head: ResponseHead | None = None
        self._body: Body = NO_BODY
        self._interims = 0  # bytes of 1xx answers, together no more than a head
        self._out: deque[bytes] = deque()
        self._queued = 0
        self._paused = False
        self.reused = False
        self.idle_since = 0.0
        pool.opened(self)
        self._loop.add_reader(self._fd, self._readable)

    # -- sending

    def start(self, handler: ResponseHandler, method: bytes, data: bytes) -> None:
        """Send the beginning of a request; its answer goes to `asker`."""
        self._handler, self._method = handler, method
        self._head = None
        self._interims = 0
        self.write(data)

    def write(self, data: bytes) -> None:
        """Send `data`, or keep what the kernel does not take now."""
        if self._fd < 0:
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

    @property
    def is_full(self) -> bool:
        return self._queued > HIGH_WATER

    def _writable(self) -> None:
        try:
            self._send_queued()
        except OSError:
            self._stop_sending()
        if not self._out and self._fd >= 0:
            self._loop.remove_writer(self._fd)
        if self._handler is not None:
            self._handler.upstream_drained()

    def _send_queued(self) -> None:
        while self._out:
            data = self._out.popleft()
            sent = self._wire.send(data)
            self._queued -= sent
            if sent < len(data):
                self._out.appendleft(data[sent:])
                return

    def _stop_sending(self) -> None:
        """The other side takes no more. An answer may still be on its way: what arrives next decides."""
        self._out.clear()
        self._queued = 0

    # -- receiving

    def pause(self) -> None:
        """Read no more until `resume`: the caller is slow, or an answer is being weighed."""
        if not self._paused and self._fd >= 0:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        if not self._paused or self._fd < 0:
            return
        self._paused = False
        self._loop.add_reader(self._fd, self._readable)
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """What was received before the pause makes no descriptor readable; nor does an empty body's end."""
        if not self._paused and self._fd >= 0 and self._handler is not None:
            self._received(b"")
            if self._wire.ended:
                self._end()

    def _readable(self) -> None:
        try:
            data = self._wire.receive()
        except OSError as error:
            self._ended(clean=False, alerted=is_alert(error))
            return
        if data:
            self._received(data)
            if self._wire.ended:
                self._end()
        elif data is not None:
            self._ended(clean=True)

    def _end(self) -> None:
        """The end that came with the last bytes: told when those have been taken."""
        if not self._paused and self._fd >= 0:
            self._ended(clean=True)

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
        except (MalformedResponse, MalformedBody):
            self._fail(malformed=True, early=False)

    def _read_heads(self, data: bytes, handler: ResponseHandler) -> bytes | None:
        """Read on to the body; returns what is there of it, or None if there is nothing more to do now."""
        while self._head is None:
            end = data.find(END)
            size = len(data) - PART_OF_END if end < 0 else end
            if self._interims + size > self._limits.header_size:
                raise MalformedResponse("its head is too large")
            if end < 0:
                self._buffer = data
                return None
            head = read_response(data[: end + 4], self._method, self._limits)
            data = data[end + 4 :]
            if head.status < 200:
                self._interims += end
                self._informed(head, handler)
            else:
                self._head = head
                self._body = head.framing() if head.framing is not None else NO_BODY
                handler.answer_head(head)
        if self._paused:
            self._buffer = data
            return None
        return data

    def _informed(self, head: ResponseHead, handler: ResponseHandler) -> None:
        """A 1xx answer (RFC 9110 section 15.2): another one follows, but for 101."""
        if head.status != 101:
            handler.interim(head)
            return
        if not handler.upgrades:
            raise MalformedResponse("it switches protocols unasked")
        self._head, self._body = head, UntilClose()
        handler.switched(head)

    def _read_body(self, data: bytes, handler: ResponseHandler) -> None:
        body = self._body
        payload, rest = body.feed(data)
        if body.done:
            self._complete(handler, nothing_behind=not rest)
            handler.answer_end(payload, body)
        else:
            handler.answer_data(payload)

    def _complete(self, handler: ResponseHandler, *, nothing_behind: bool) -> None:
        assert self._head is not None
        sent_whole = (
            not self._out and not handler.wants_body
        )  # else the next request would be read as its body
        self._handler = None
        if nothing_behind and sent_whole and self._head.keep_alive:
            self.reused = True
            self.idle_since = self._loop.time()
            self._pool.give(self)
        else:
            self.close()

    def _ended(self, *, clean: bool, alerted: bool = False) -> None:
        handler = self._handler
        if handler is None:
            self.close()
        elif clean and self._head is not None and self._body.end_of_input():
            self.close()
            handler.answer_end(b"", self._body)
        else:
            early = self._head is None and not self._buffer and not self._interims
            self._fail(malformed=False, early=early, alerted=alerted)

    def _fail(self, *, malformed: bool, early: bool, alerted: bool = False) -> None:
        handler, self._handler = self._handler, None
        self.close()
        if handler is not None:
            handler.upstream_failed(malformed=malformed, early=early, alerted=alerted)

    def close(self) -> None:
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._fd = -1
        self._handler = None
        self._wire.sock.close()
        self._pool.closed(self)


class Pool:
    """The connections of one route and account: nobody else's answer can arrive on them."""

    __slots__ = ("_idle", "_open", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: deque[Upstream] = deque()
        self._open: set[Upstream] = set()

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def active(self) -> int:
        return len(self._open) - len(self._idle)

    def take(self) -> Upstream | None:
        """The connection that was used last: the others may end, unneeded."""
        return self._idle.pop() if self._idle else None

    def give(self, upstream: Upstream) -> None:
        if len(self._idle) >= self._size:
            upstream.close()
            return
        self._idle.append(upstream)

    def opened(self, upstream: Upstream) -> None:
        self._open.add(upstream)

    def closed(self, upstream: Upstream) -> None:
        self._open.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)

    def retire(self) -> None:
        """Keep nothing from now on; what is in use ends with its exchange."""
        self._size = 0
        self.close_idle(float("inf"))

    def close_idle(self, before: float) -> None:
        """Close those that have been idle since `before` (loop time)."""
        while self._idle and self._idle[0].idle_since < before:
            self._idle[0].close()

    def close(self) -> None:
        for upstream in list(self._open):
            upstream.close()
