"""The phases, deadline and endings of an exchange: the part of it that owns what must be released."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Final

from proxy.http.message import RequestHead
from proxy.http.traceparent import trace_id
from proxy.observe.audit import ALLOWED, AuditLog
from proxy.relay import decisions, phases, problems
from proxy.relay.accounting import account_for
from proxy.relay.callers import Caller
from proxy.relay.context import RelayContext
from proxy.relay.interfaces import Downstream
from proxy.relay.phases import Phase
from proxy.relay.pool import Pool
from proxy.relay.problems import Refusal
from proxy.relay.runtime import RouteRuntime
from proxy.relay.upload import NO_UPLOAD, Upload
from proxy.relay.upstream import Upstream
from proxy.tokens.account import Account

CALLER_GONE: Final = 499  # the status that nginx logs when the caller has closed its connection

_log = logging.getLogger("proxy.relay")


class Lifecycle:
    """The phase of an exchange, its resources and its endings. `exchange.Exchange` adds the steps between.

    An exchange ends with one call of the caller's connection, unless that has been lost.
    """

    _routed = False  # it has a runtime
    _runtime: RouteRuntime
    _identity: Caller | None = None  # None where callers need none
    _account: Account | None = None
    _upstream: Upstream | None = None
    _queued_in: Pool | None = None  # where it waits for a connection
    _work: asyncio.Task[None] | None = None
    _peer = ""  # for the audit log
    _number = 0  # in lines about its decisions; 0: there are none
    _status = 0
    _asked = 0.0  # when the upstream's part began, from `perf_counter`; 0: with the request
    _upstream_seconds = -1.0  # until its response began
    _replayed = False  # sent again after a 401
    _bytes_out = 0
    phase = phases.ADMISSION
    deadline = 0.0  # loop time

    def __init__(self, caller: Downstream, context: RelayContext, request: RequestHead) -> None:
        self._caller = caller
        self._context = context
        self._request = request
        self._started = perf_counter()
        if context.audit is not None:
            self._peer = caller.peer_name  # now: later the connection may be lost
        self._upload = NO_UPLOAD if request.body is None else Upload(request.body, context.limits.spool)

    def _enter(self, phase: Phase) -> None:
        """Begin a phase, or extend it after some progress: the only place that sets the deadline."""
        self.phase = phase
        self.deadline = self._caller.time() + self._context.timeouts[phase.number]

    def _break_off(self, refusal: Refusal) -> None:
        """End the exchange: by a response of our own if none has begun, else by a reset."""
        if not self.phase.begun:
            self._refuse(refusal)
            return
        case = refusal.case
        decisions.say(self._number, "aborted", "the caller's connection is reset: %s", refusal.detail)
        if case is not problems.CALLER_TIMEOUT:
            self._runtime.upstream_failed(refusal, self._caller.time())
        self._finish(case.ending)
        self._caller.abort()

    def _refuse(self, refusal: Refusal) -> None:
        """End the exchange by a response of our own. The rest of the request's body is not read."""
        case = refusal.case
        decisions.refused(self._number, refusal)
        self._status = case.status
        self._context.count_refused(refusal, routed=self._routed)
        if self._routed and case.status in {502, 504}:
            self._runtime.upstream_failed(refusal, self._caller.time())
        if self._request.method != b"HEAD":
            self._bytes_out = len(refusal.body(self._context.public_url))
        self._finish(case.ending)
        self._caller.refuse(refusal)

    @property
    def route(self) -> str:
        """The name of the request's route; empty before it has one."""
        return self._runtime.route.name if self._routed else ""

    @property
    def _credential(self) -> str:
        """Of its account, or of its route if there is none yet; empty before it has either."""
        if self._account is not None:
            return self._account.key.credential
        return self._runtime.credential if self._routed else ""

    @property
    def caller(self) -> str:
        """The name of the request's caller; empty if it has none."""
        return self._identity.name if self._identity is not None else ""

    def cut(self, refusal: Refusal) -> None:
        """End the exchange, as its route or caller is no longer configured."""
        if not self.phase.begun:
            self._refuse(refusal)
        elif self.phase is not phases.OVER:
            self._finish(refusal.case.ending)
            self._caller.abort()

    def malformed(self) -> None:
        """The framing of the request's body is broken: nothing after it is read as a request."""
        if self.phase.begun:
            self._finish(problems.BAD_REQUEST.ending)
            self._caller.abort()
        else:
            self._refuse(Refusal(problems.BAD_REQUEST, problems.BODY_MALFORMED))

    def fail(self, error: Exception) -> None:
        """End the exchange after an unexpected exception."""
        _log.error("a request failed unexpectedly", exc_info=error)
        try:
            if self.phase.begun:
                self._context.metrics.refused.labels(problems.INTERNAL_ERROR.ending).inc()
                self._finish(problems.INTERNAL_ERROR.ending)
                self._caller.abort()
            else:
                self._refuse(Refusal(problems.INTERNAL_ERROR, problems.BUG))
        except Exception as again:  # noqa: BLE001
            _log.error("responding to a failed request failed too", exc_info=again)
            self._caller.abort()

    def abandon(self) -> None:
        """The caller has gone: end the exchange without a response."""
        if self.phase is phases.OVER:
            return
        if self.phase is not phases.TUNNEL and self.phase is not phases.TUNNEL_FULL:
            self._status = CALLER_GONE
        decisions.say(self._number, "caller_gone", "the caller has gone in phase %r", self.phase.name)
        self._finish("caller-gone")

    # -- the end

    def _finish(self, error: str) -> None:
        """Release everything, then count and log."""
        if self.phase is phases.OVER:
            return
        self.phase = phases.OVER
        self.deadline = phases.NEVER
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        elif self._queued_in is not None:
            self._queued_in.leave(self)  # type: ignore[arg-type]  # every one is an Exchange
            self._queued_in = None
        if self._work is not None and self._work is not asyncio.current_task():
            self._work.cancel()
        if self._routed:
            self._runtime.in_flight -= 1
            self._account_for(error)
        if self._context.audit is not None:
            self._audit(self._context.audit, error or ALLOWED)

    def _account_for(self, error: str) -> None:
        account_for(
            self._context,
            self._runtime,
            self._identity,
            self._account,
            self._request,
            self._started,
            self._status,
            self._upstream_seconds,
            self._upload.received,
            self._bytes_out,
            error,
            self._replayed,
        )

    def _audit(self, audit: AuditLog, decision: str) -> None:
        audit.request(
            request_id=trace_id(self._request.fields.block),
            caller=self.caller,
            peer=self._peer,
            route=self.route,
            credential=self._credential,
            account="" if self._account is None else self._account.key.account,
            method=self._request.method.decode("ascii"),
            target=self._request.path or self._request.target,
            decision=decision,
            status=self._status,
            bytes_in=self._upload.received,
            bytes_out=self._bytes_out,
            seconds=perf_counter() - self._started,
        )
