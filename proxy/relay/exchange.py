"""One request's story, from its head to the last byte of its answer.

    begin ──ready──────────────► send ──► answer's head ──► body ──► end
      └─ prepare: await a token,  ▲ │            │ 401, and a better token may be had
         dial an upstream ────────┘ └─ failed    └─ replay: await the token, dial, send again

What is ready is used at once: with a fresh token and an idle connection nothing is awaited and no task is
made. What isn't is awaited in one coroutine that ends in the same `_send`.

The request's body is kept while it fits the spool, so that it can be sent again; it is sent again at most
once, for one of two reasons: a 401 to a token that can be replaced, or a connection that turned out closed
before a byte of an answer (only where RFC 9110 section 9.2.2 allows).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import perf_counter
from typing import Final

from proxy import tasks
from proxy.http import headers, message
from proxy.http.body import Body, Chunked, UntilClose, encode_chunk
from proxy.http.message import IDEMPOTENT, RequestHead, ResponseHead
from proxy.http.target import upstream_path
from proxy.relay import admission, obtain, problems, translate
from proxy.relay.context import RelayContext
from proxy.relay.interfaces import Downstream
from proxy.relay.problems import AboutUs, Case, Refusal
from proxy.relay.runtime import RouteRuntime
from proxy.relay.timeouts import NOBODY, Wait, waiting_for
from proxy.relay.upload import NO_UPLOAD, Upload
from proxy.relay.upstream import Upstream
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment

UNAUTHORIZED: Final = 401


class Exchange:
    """A request and its answer. It tells `caller.exchange_done` when it is over, unless aborted."""

    _routed = False  # it has a lane
    _runtime: RouteRuntime
    _account: Account | None = None
    _attachment: Attachment  # the token that was attached, once it is sent
    _upstream: Upstream | None = None
    _work: asyncio.Task[None] | None = None
    _path = b""  # upstream
    upgrades = False  # it asks for WebSocket, and the route permits it
    _second = False  # the request is being sent again
    _held_back = False  # an answer, until it is known whether the request is sent again
    answered = False  # the head of an answer is on its way to the caller
    _chunked = False  # how the answer is framed
    _head = b""  # of the answer, until there is something to send behind it
    _status = 0
    _bytes_out = 0
    moved = True  # something has happened since the caller's connection last looked
    over = False

    def __init__(self, caller: Downstream, context: RelayContext, request: RequestHead) -> None:
        self._caller = caller
        self._context = context
        self._request = request
        self._started = perf_counter()
        self._upload = NO_UPLOAD if request.body is None else Upload(request.body, context.limits.spool)
        self._closes = not request.fields.keep_alive  # the caller's connection ends with the answer

    # -- the request comes in

    def begin(self, rest: bytes, own: RouteRuntime | None) -> None:
        """`rest` came with the head. `own`: the route that has this listener to itself.

        Raises MalformedBody.
        """
        context, request = self._context, self._request
        if request.body is not None:
            self.request_data(rest)
        elif rest:
            self._caller.keep(rest)
        try:
            runtime, path = admission.admit(context, request, own, self._caller.local_address)
            self._runtime, self._routed = runtime, True
            runtime.in_flight += 1
            account = self._account = runtime.fixed or runtime.named(request)
            if runtime.forwarded or request.fields.has_links:
                translate.to_upstream(context, runtime, request, self._caller)
            self.upgrades = runtime.websocket and request.wants_websocket
        except Refusal as refusal:
            self._refuse(refusal)
            return
        except AboutUs:
            self._closes = self._closes or self._upload.arriving  # what is left of it is not a request
            self._caller.write(
                problems.ABOUT_US + (b"Connection: close\r\n\r\n" if self._closes else b"\r\n")
            )
            self._end("")
            return
        self._path = upstream_path(runtime.base, runtime.prefix, path, strip=runtime.strip)
        attachment = context.tokens.ready(account)
        upstream = attachment and (runtime.fixed_pool or runtime.pool(account)).take()
        if attachment and upstream:
            self._send(attachment, upstream)
        else:
            self._work = tasks.spawn(self._prepare(account), "prepare a request")

    def request_data(self, data: bytes) -> None:
        """More of the request's body, and perhaps of what follows it. Raises MalformedBody."""
        framed, rest = self._upload.feed(data)
        self.moved = True
        if rest:
            self._caller.keep(rest)
        if framed and self._upstream is not None:
            self._upstream.write(framed)
        self._regulate()

    @property
    def wants_body(self) -> bool:
        """Whether the request's body is still arriving."""
        return self._upload.arriving

    @property
    def streams(self) -> bool:
        """Whether chunks of an answer are on their way to the caller."""
        return self.answered and self._chunked

    def _regulate(self) -> None:
        """Read no more from the caller than the upstream takes, or the spool holds until there is one."""
        full = self._upload.fills_spool if self._upstream is None else self._upstream.is_full
        self._caller.read_on(wanted=not full)

    # -- the request goes out

    async def _prepare(self, account: Account, attachment: Attachment | None = None) -> None:
        """Get what is not ready. What is sent again has a token, and wants a new connection."""
        try:
            attachment = attachment or await obtain.token(self._context, account)
            upstream = None if self._second else self._runtime.pool(account).take()
            upstream = upstream or await obtain.connection(self._context, self._runtime, account)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self._send(attachment, upstream)

    def _send(self, attachment: Attachment, upstream: Upstream) -> None:
        """Send what is there of the request; the rest follows as it comes."""
        request = self._request
        self._attachment, self._upstream, self.moved = attachment, upstream, True
        names = self._runtime.authority, attachment.fields, self._context.via
        head = message.to_upstream(request, self._path, *names, upgrade=self.upgrades)
        if request.body is None:
            upstream.start(self, request.method, head)
        else:
            upstream.start(self, request.method, head + self._upload.begin())
            self._regulate()

    def upstream_drained(self) -> None:
        self.moved = True
        if self._upload.arriving:
            self._regulate()

    # -- the answer comes in

    def _translated(self, head: ResponseHead) -> ResponseHead:
        if not head.needs_rewrite:
            return head
        return translate.to_caller(self._context, self._runtime, self._request, self._caller, head)

    def interim(self, head: ResponseHead) -> None:
        self.moved = True
        if not self._request.fields.http10:
            head = self._translated(head)
            self._caller.write(message.to_caller(head, chunked=False, close=False))

    def switched(self, head: ResponseHead) -> None:
        self.answered = self._closes = True
        self._status = head.status
        self._head = message.switched(self._translated(head))
        self._upload = Upload(UntilClose(), 0)
        self._upload.begin()
        self._caller.hand_over()

    def answer_head(self, head: ResponseHead) -> None:
        if head.status != UNAUTHORIZED or not self._rejected(head):
            self._relay_head(head)

    def _rejected(self, head: ResponseHead) -> bool:
        """A 401: hold it back if the request can be sent again with a better token."""
        assert self._account is not None
        assert self._upstream is not None
        better = None if self._second else self._context.tokens.reject(self._account, self._attachment)
        if better is None or not self._upload.repeatable:
            self._runtime.unauthorized("returned")
            return False
        self._upstream.pause()
        self._held_back = True
        self._work = tasks.spawn(self._replay(self._account, head, better), "replay a request")
        return True

    def _relay_head(self, head: ResponseHead) -> None:
        head = self._translated(head)
        old = self._request.fields.http10
        self._chunked = head.chunked and not old
        # what is neither counted nor chunked ends with the connection
        until_close = head.framing is UntilClose or (head.chunked and old)
        self._closes = self._closes or until_close or self._upload.arriving or self._context.draining
        self.answered = True
        self._status = head.status
        self._head = message.to_caller(head, chunked=self._chunked, close=self._closes)

    def answer_data(self, payload: bytes) -> None:
        """What is at hand of the answer; at first with its head."""
        self._bytes_out += len(payload)
        self.moved = True
        data = encode_chunk(payload) if self._chunked and payload else payload
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            caller = self._caller
            caller.write(data)
            if caller.is_full and self._upstream is not None:
                self._upstream.pause()

    def answer_end(self, payload: bytes, body: Body) -> None:
        self._upstream = None
        if self._chunked:
            assert isinstance(body, Chunked)
            self.answer_data(payload)
            self._caller.write(headers.trailers(body.trailers, body.nominated))
        else:
            self._bytes_out += len(payload)
            self._caller.write(self._head + payload)
        self._finish("")
        self._caller.exchange_done(close=self._closes, unread=self._upload.arriving)

    def caller_drained(self) -> None:
        """The caller takes more again."""
        self.moved = True
        if self._upstream is not None and self.answered:
            self._upstream.resume()

    async def _replay(
        self, account: Account, head: ResponseHead, better: Awaitable[Attachment | None]
    ) -> None:
        """A 401 is held back: send the request again with a better token, or pass the answer on after all."""
        attachment = await better
        self._held_back = False
        self.moved = True
        upstream = self._upstream
        assert upstream is not None
        if attachment is None:
            self._runtime.unauthorized("returned")
            self._relay_head(head)
            upstream.resume()
            return
        self._runtime.unauthorized("replayed")
        self._second, self._upstream = True, None
        upstream.close()
        await self._prepare(account, attachment)

    # -- things go wrong

    def upstream_failed(self, *, malformed: bool, early: bool, alerted: bool) -> None:
        upstream, self._upstream = self._upstream, None
        assert self._account is not None
        is_closed = early and upstream is not None and upstream.reused and not self._second
        if is_closed and self._upload.repeatable and self._request.method in IDEMPOTENT:
            self._second = True
            self._work = tasks.spawn(self._prepare(self._account, self._attachment), "retry a request")
            return
        if alerted:  # in TLS 1.3 a certificate of ours is asked for, and missed, behind the handshake
            self._broken(problems.UPSTREAM_TLS, "the upstream refused TLS: it may want a certificate")
            return
        detail = "'s answer is malformed" if malformed else " ended the connection before its answer did"
        self._broken(problems.UPSTREAM_PROTOCOL, f"the upstream{detail}")

    def _broken(self, case: Case, detail: str) -> None:
        """The upstream failed us: our answer if none has begun, else the connection is cut."""
        if not self.answered:
            self._refuse(Refusal(case, detail))
            return
        if case is not problems.CALLER_TIMEOUT:
            self._runtime.upstream_error(case.ending)
        self._finish(case.ending)
        self._caller.abort()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer ourselves. What is left of the request's body is not read."""
        case = refusal.case
        self._status = case.status
        self._closes = self._closes or case.closes or self._upload.arriving or self._context.draining
        data = problems.render(refusal, head_only=self._request.method == b"HEAD", close=self._closes)
        self._caller.write(data)
        self._context.count_refused(refusal, routed=self._routed)
        if self._routed and case.status in {502, 504}:
            self._runtime.upstream_error(case.ending)
        self._end(case.ending)

    def malformed(self) -> None:
        """The body's framing is broken: nothing behind it is read as a request."""
        self._closes = True
        if self.answered:
            self._finish("bad-request")
            self._caller.abort()
        else:
            self._refuse(Refusal(problems.BAD_REQUEST, "the request's body is malformed"))

    def wait(self) -> Wait:
        """For whom this waits now, and how long it may."""
        if self._upstream is None or self._held_back:
            return NOBODY
        return waiting_for(
            self._context.limits,
            answered=self.answered,
            arriving=self._upload.arriving,
            caller_is_full=self._caller.is_full,
            upstream_is_full=self._upstream.is_full,
        )

    def give_up(self, wait: Wait) -> None:
        """Nothing has happened for so long."""
        upstream, self._upstream = self._upstream, None
        assert upstream is not None
        upstream.close()
        self._broken(wait.case, wait.detail)

    def abort(self) -> None:
        """The caller has gone: nothing more is wanted of the upstream."""
        if self.over:
            return
        self._status = self._status or 499  # as nginx logs a caller that hung up
        self._finish("caller-gone")

    # -- the end

    def _end(self, error: str) -> None:
        self._finish(error)
        self._caller.exchange_done(close=self._closes, unread=self._upload.arriving)

    def _finish(self, error: str) -> None:
        """Count, log, and let go of everything."""
        self.over = True
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        if self._work is not None and self._work is not asyncio.current_task():
            self._work.cancel()
        if not self._routed:
            return
        runtime, log = self._runtime, self._context.log
        runtime.in_flight -= 1
        seconds = perf_counter() - self._started
        runtime.tally.count(self._request.method, self._status, seconds)
        if log.enabled:
            account = self._account
            who = runtime.route.name, runtime.route.credential, account.key.account if account else ""
            what = self._request.method.decode("ascii"), self._status, seconds
            log.add(*who, *what, self._upload.received, self._bytes_out, error)
