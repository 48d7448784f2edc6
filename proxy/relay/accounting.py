"""The metrics and the log line of a completed request."""

from __future__ import annotations

from time import perf_counter

from proxy.http.message import RequestHead
from proxy.observe.logs import RequestLog
from proxy.relay.runtime import RouteRuntime
from proxy.tokens.account import Account


def account_for(
    log: RequestLog,
    runtime: RouteRuntime,
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
    runtime.tally.count(request.method, status, seconds)
    if log.enabled:
        names = runtime.route.name, runtime.route.credential, account.key.account if account else ""
        outcome = request.method.decode("ascii"), status, seconds
        log.add(*names, *outcome, received, sent, error)
