"""The metrics and the log line of a completed request."""

from __future__ import annotations

from time import perf_counter

from proxy.http.message import RequestHead
from proxy.http.traceparent import trace_id
from proxy.observe.request_lines import RequestLines
from proxy.relay.callers import Caller
from proxy.relay.context import RelayContext
from proxy.relay.runtime import RouteRuntime
from proxy.tokens.account import Account


def account_for(
    context: RelayContext,
    runtime: RouteRuntime,
    caller: Caller | None,
    account: Account | None,
    request: RequestHead,
    started: float,
    status: int,
    upstream: float,
    received: int,
    sent: int,
    error: str,
    replayed: bool,
    /,
) -> None:
    """`started`: from `perf_counter`. `upstream`: seconds until its response began; negative: it did not.

    `received`, `sent`: body bytes. `error`: a `Case.ending`, or empty. `replayed`: sent again after a 401.
    """
    seconds = perf_counter() - started
    method, name = request.method, ""
    runtime.tally.count(method, status, seconds)
    if caller is not None:
        name = caller.name
        caller.tally.count(runtime.name, status)
    log = context.log
    if log.enabled:
        lines: RequestLines = log.lines
        line = lines.line(
            runtime.name,
            runtime.credential,
            account.name if account is not None else "",
            name,
            method.decode("ascii"),
            status,
            seconds * 1000,
            upstream * 1000,
            received,
            sent,
            error,
            replayed,
            trace_id(request.fields.block),
        )
        log.add(line)
