"""One request, from its head to the last byte of its response. Its phases are in phases.py.

    begin ──ready─────────────────► send ──► response's head ──► body ──► end
      ├─ prepare: await a token ─┐   ▲ │            │ 401, and a better token may be had
      └─ no idle connection: ◄───┴─┐ │ └─ failed    └─ replay: await the token, send again
         wait in the pool's queue ─┼─┘      │                               │
                                   └────────┴───────────────────────────────┘

With a fresh token and an idle connection nothing is awaited and no task is made; nor in the queue for a
connection. If the token is missing, one coroutine awaits it. All end in the same `_send`.

The request's body is kept while it fits the spool, so that the request can be sent again; at most once, for
one of two reasons: a 401 to a token that can be replaced, or a reused connection that was closed before the
first byte of a response (only where RFC 9110 section 9.2.2 allows).

An unexpected exception, in a callback or in the coroutine, ends in `fail`: one response of our own, or a
reset of the caller's connection.
"""

from __future__ import annotations

from collections.abc import Awaitable
from time import perf_counter
from typing import Final

from proxy.failure_causes import Cause
from proxy.http import head_writer
from proxy.http.body import Body, UntilClose
from proxy.http.message import ResponseHead
from proxy.http.query import with_parameters
from proxy.http.target import upstream_path
from proxy.relay import admission, decisions, obtain, phases, problems, token_requests, translate
from proxy.relay import upstream_causes as causes
from proxy.relay.connecting import Connecting
from proxy.relay.failures import Failure, may_repeat, refusal_of
from proxy.relay.phases import Phase
from proxy.relay.problems import AboutUs, Refusal
from proxy.relay.runtime import RouteRuntime
from proxy.relay.token_requests import TokenAsked
from proxy.relay.upload import Upload
from proxy.relay.upstream import Upstream
from proxy.tokens import handed_out
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment, at_once

UNAUTHORIZED: Final = 401
BOTH_WAYS: Final = 2  # of a tunnel


class Exchange(Connecting):
    """A request and its response."""

    upgrades = False  # it asks for WebSocket, and the route permits it
    _expecting = False  # the caller is waiting for a 100
    _has_nonce = False  # it was sent again with a nonce that it lacked ...
    _only_for_nonce = False  # ... and for nothing else: a better token is still worth another time
    _held: ResponseHead | None = None  # a 401, until it is known whether the request is sent again
    _ways = BOTH_WAYS  # of a tunnel that are open

    @property
    def half_closed(self) -> float:
        """Seconds without a byte of a response after which a caller that ended its side counts as gone."""
        return self._runtime.half_closed if self._routed else self._context.limits.half_closed

    # -- the request comes in

    def begin(self, own: RouteRuntime | None, payload: bytes) -> None:
        """`own`: the route that has this listener to itself. `payload`: the body received so far."""
        context, request = self._context, self._request
        if request.body is not None:
            self._upload.add(payload)
        try:
            runtime, path, caller = admission.admit(context, request, own, self._caller)
            self._runtime, self._routed, self._identity = runtime, True, caller
            runtime.in_flight += 1
            if caller is not None or request.fields.needs_checks or runtime.policy is not None:
                admission.permit(runtime, request, caller)
            if context.audit is not None:
                admission.check_audit(context.audit)
            account = self._account = runtime.fixed or runtime.account(request, caller)
            if (runtime.changes_fields or request.fields.has_links) and not runtime.moves:
                translate.to_upstream(context, runtime, request, self._caller)
            self.upgrades = runtime.websocket and request.wants_websocket
        except Refusal as refusal:
            self._refuse(refusal)
            return
        except AboutUs as question:
            self._status = question.status
            self._finish("")
            self._caller.about_us(question.head)
            return
        except TokenAsked as asked:
            self._identity = asked.caller
            self._do(self._hand_out(), "hand out a token", phases.TOKEN)
            return
        if context.says_decisions:
            table = context.callers
            self._number = decisions.admitted(request, runtime, account, caller, table, self._caller)
        self._path = upstream_path(runtime.base, runtime.prefix, path, strip=runtime.strip)
        attachment = context.tokens.ready(account)
        if attachment is None:
            self._do(self._prepare(account), "prepare a request", phases.TOKEN)
        else:
            self._send_on_idle(account, attachment)

    async def _hand_out(self) -> None:
        """The caller asks for a token itself: token_requests.py. Raises Refusal."""
        context, request = self._context, self._request
        wanted = token_requests.wanted(request, self._identity)
        if context.audit is not None:
            admission.check_audit(context.audit)
        account = self._account = context.tokens.account(wanted.credential, wanted.account)
        attachment = await obtain.token(context, account)
        head, body = token_requests.response(account, attachment, context.tokens.clock)
        handed_out.note(account, self.caller)
        self._status = 200
        self._bytes_out = 0 if request.method == b"HEAD" else len(body)
        self._finish("")
        self._caller.about_us(head, body)

    def request_data(self, payload: bytes) -> None:
        """More of the request's body, or of a tunnel, has come."""
        upload, upstream = self._upload, self._upstream
        upload.add(payload)
        self._expecting = False
        if upstream is not None:
            upstream.send(payload)
            self._uploaded()
        self._regulate()

    def _uploaded(self) -> None:
        """Some of the request has been received or sent: its phase is extended, or changes."""
        phase = self.phase
        if phase.sends:
            self._enter(self._while_sending())
        elif phase.begun:
            self._enter(phase)

    def _while_sending(self) -> Phase:
        upstream = self._upstream
        return phases.while_sending(
            arriving=self._upload.arriving,
            expecting=self._expecting,
            full=upstream is not None and upstream.is_full,
        )

    def _regulate(self) -> None:
        """Read from the caller only while the upstream takes more, or, before there is one, the spool."""
        full = self._upload.fills_spool if self._upstream is None else self._upstream.is_full
        self._caller.read_on(wanted=not full)

    # -- the request goes out

    def _send(self, attachment: Attachment, upstream: Upstream) -> None:
        """Send the request as far as it has come; the rest follows as it comes."""
        request = self._request
        self._attachment, self._upstream = attachment, upstream
        if self._number:
            how = "a connection from the pool" if upstream.reused else "a new connection"
            decisions.say(self._number, "sent", "sent with a token on %s", how)
        runtime, path, attached = self._runtime, self._path, attachment.fields
        if runtime.proves:
            attached = attachment.fields_for(request.method, runtime.origin, path)
        if attachment.query:
            path = with_parameters(path, attachment.parameters, attachment.query)
        names = runtime.authority, attached, self._context.via
        head = head_writer.to_upstream(request, path, *names, upgrade=self.upgrades)
        body = request.body
        if body is None:
            upstream.start(self, request.method, head)
            self._enter(phases.WAITING)
            return
        self._expecting = self._upload.received == 0 and b"expect" in request.fields.index
        upstream.start_with_body(self, request.method, head, body, self._upload.begin())
        self._enter(self._while_sending())
        if self._upload.arriving:
            self._regulate()

    def upstream_drained(self) -> None:
        self._uploaded()
        if self._upload.arriving:
            self._regulate()

    # -- the response comes in

    def informed(self, head: ResponseHead) -> None:
        if head.status == 100:
            self._expecting = False
        self._enter(self._while_sending())
        self._caller.inform(self._translated(head))

    def switched(self, head: ResponseHead) -> None:
        self._begin_response(head)
        self._upload = Upload(UntilClose(), 0)
        self._upload.begin()
        self._enter(phases.TUNNEL)
        self._caller.switch(self._translated(head))

    def response_head(self, head: ResponseHead) -> None:
        has_nonce = self._runtime.proves and self._attachment.learn(self._runtime.origin, head.block)
        if head.status != UNAUTHORIZED or not self._rejected(head, has_nonce=has_nonce):
            self._relay_head(head)

    def _rejected(self, head: ResponseHead, *, has_nonce: bool) -> bool:
        """A 401: hold it if the request can be sent again with a better token, or a nonce that it lacked."""
        assert self._account is not None
        assert self._upstream is not None
        better: Awaitable[Attachment | None] | None = None
        lacks_nonce = has_nonce and not self._has_nonce
        if lacks_nonce:
            better = at_once(self._attachment)
        elif not has_nonce and (not self._second or self._only_for_nonce):
            better = self._context.tokens.reject(self._account, self._attachment)
        if better is None or not self._upload.repeatable:
            self._passes_401()
            return False
        self._only_for_nonce = lacks_nonce and not self._second
        self._has_nonce = self._has_nonce or lacks_nonce
        decisions.say(self._number, "unauthorized", "401: held until there is a better token")
        self._upstream.pause()
        self._held = head
        self._do(self._replay(self._account, better), "replay a request", phases.HELD)
        return True

    def _relay_head(self, head: ResponseHead) -> None:
        self._enter(phases.RELAYING)
        self._begin_response(head)
        self._caller.respond(self._translated(head))

    def _begin_response(self, head: ResponseHead) -> None:
        if self._number:
            decisions.responded(self._number, head)
        self._status = head.status
        self._upstream_seconds = perf_counter() - (self._asked or self._started)

    def _translated(self, head: ResponseHead) -> ResponseHead:
        """The head with its links, cookies and CORS fields rewritten for the caller."""
        if not head.needs_rewrite and not self._request.page:
            return head
        return translate.to_caller(self._context, self._runtime, self._request, self._caller, head)

    def response_data(self, payload: bytes) -> None:
        """More of the response's body; its first part goes out with the head."""
        self._bytes_out += len(payload)
        caller = self._caller
        caller.send(payload)
        self._enter(phases.while_relaying(self.phase, full=caller.is_full))
        if caller.is_full and self._upstream is not None:
            self._upstream.pause()

    def response_end(self, payload: bytes, body: Body) -> None:
        self._upstream = None
        self._bytes_out += len(payload)
        self._finish("")
        self._caller.finish(payload, body)

    def caller_took(self) -> None:
        """The caller has read some of the response: that is progress."""
        if self.phase is phases.CALLER_FULL or self.phase is phases.TUNNEL_FULL:
            self._enter(self.phase)

    def caller_drained(self) -> None:
        """The buffer towards the caller has room again."""
        if self.phase.begun and self._upstream is not None:
            self._enter(phases.while_relaying(self.phase, full=False))
            self._upstream.resume()

    async def _replay(self, account: Account, better: Awaitable[Attachment | None]) -> None:
        """A 401 is held: send the request again with a better token, or pass the 401 on after all."""
        attachment = await better
        if attachment is None:
            self._release()
            return
        upstream, self._upstream, self._held = self._upstream, None, None
        assert upstream is not None
        self._runtime.replayed()
        decisions.say(self._number, "replay", "there is a better token: the request is sent again")
        self._replayed = True
        upstream.close()
        self._send_again(account, attachment)

    def _release(self) -> None:
        """There is no better token: the 401 passes."""
        head, self._held = self._held, None
        assert head is not None
        assert self._upstream is not None
        self._passes_401()
        self._relay_head(head)
        self._upstream.resume()

    def _passes_401(self) -> None:
        assert self._account is not None
        decisions.say(self._number, "unauthorized", "401: it passes, as no better token is to be had now")
        self._runtime.returned(self._account, self._attachment, self._caller.time())

    # -- the end of each direction of a tunnel: it is passed on; after the second the tunnel is over

    def caller_ended(self) -> None:
        if self._upstream is not None:
            self._upstream.end()
        self._close_one_way()

    def upstream_ended(self) -> None:
        if not self._caller.end():
            self._ways = 1
        self._close_one_way()

    def _close_one_way(self) -> None:
        self._ways -= 1
        if self._ways > 0:
            self._enter(self.phase)
            return
        self._finish("")
        self._caller.close()

    # -- failures

    def upstream_failed(self, failure: Failure, cause: Cause | None) -> None:
        upstream, self._upstream = self._upstream, None
        assert self._account is not None
        is_late = upstream is not None and upstream.reused and not self._second and self._upload.repeatable
        if is_late and may_repeat(failure, self._request.method):
            decisions.say(self._number, "retry", "the pooled connection had ended: %s", failure.value)
            self._send_again(self._account, self._attachment)
            return
        self._break_off(refusal_of(failure, cause, self._runtime.route))

    def give_up(self) -> None:
        """The deadline has passed."""
        phase = self.phase
        if phase is not phases.HELD:
            self._break_off(self._overdue(phase))
            return
        if self._work is not None:
            self._work.cancel()
        self._release()

    def _overdue(self, phase: Phase) -> Refusal:
        if phase.cause is not None:
            return causes.refusal(phase.case, phase.cause, self._runtime.route)
        retry_after = 1 if phase.case is problems.TOKEN_UNAVAILABLE else None
        return Refusal(phase.case, phase.detail, retry_after=retry_after)
