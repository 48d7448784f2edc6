"""The metrics and the log line of a completed request."""

from __future__ import annotations

from time import perf_counter

from proxy.http.message import RequestHead
from proxy.observe.logs import RequestLine
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
    *,
    started: float,
    status: int,
    received: int,
    sent: int,
    error: str,
) -> None:
    """`started`: from `perf_counter`. `received`, `sent`: body bytes. `error`: a `Case.ending`, or empty."""
    seconds = perf_counter() - started
    route, name = runtime.route, ""
    runtime.tally.count(request.method, status, seconds)
    if caller is not None:
        name = caller.name
        caller.tally.count(route.name, status)
    log = context.log
    if log.enabled:
        log.add(
            RequestLine(
                route.name,
                route.credential,
                account.key.account if account else "",
                name,
                request.method.decode("ascii"),
                status,
                seconds * 1000,
                received,
                sent,
                error,
            )
        )
