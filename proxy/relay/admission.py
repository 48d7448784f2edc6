"""Whether a request may be relayed at all: the refusals of the contract, in its order (`admit`)."""

from __future__ import annotations

from typing import Final

from proxy.hosts import LOOPBACK_NAMES
from proxy.http import headers
from proxy.http.key_fields import PresentedKey
from proxy.http.malformed import MalformedRequest
from proxy.http.message import RequestHead
from proxy.http.target import Target, read_target
from proxy.observe.audit import AuditLog
from proxy.relay import no_route, policy, problems, subjects, token_requests, web_pages
from proxy.relay.callers import Caller, CallerTable
from proxy.relay.context import RelayContext
from proxy.relay.interfaces import Downstream
from proxy.relay.problems import AboutUs, Refusal
from proxy.relay.runtime import RouteRuntime
from proxy.relay.token_requests import TokenAsked

MOST_DIGITS: Final = 9  # of Max-Forwards


def admit(
    context: RelayContext, request: RequestHead, own: RouteRuntime | None, downstream: Downstream
) -> tuple[RouteRuntime, bytes, Caller | None]:
    """The route of a request, its path, and its caller where callers are identified.

    `own`: the route that has this listener to itself. Raises Refusal for the first rule of the contract that
    the request breaks; AboutUs; TokenAsked. Whether it may use the route is for `permit`.
    """
    if request.method in problems.REFUSED_METHODS:
        raise Refusal(problems.METHOD_REFUSED, problems.NOT_RELAYED)
    path, absolute = _target(request)
    request.path = path
    if absolute is not None:
        request.authority = absolute.decode("latin-1")
    authority = request.authority
    if authority is None:
        host: str | None = downstream.local_address
    else:  # most values are known, and need no look at the connection
        host = context.hosts.known(authority) or context.hosts.read(authority, downstream.local_address)
    if host is None:
        raise Refusal(problems.HOST_REFUSED, problems.OTHER_HOST)
    runtime = own or (None if token_requests.is_reserved(path) else context.table.match(host, path))
    needs_checks = request.fields.needs_checks
    is_tls = downstream.is_tls
    if needs_checks or not (is_tls or host in LOOPBACK_NAMES):
        pages = web_pages.NO_PAGES if runtime is None else runtime.pages
        is_known = _has_safe_key(context, runtime, request, downstream)
        web_pages.check(request, pages, host, context.public_url, is_tls=is_tls, has_safe_key=is_known)
    caller = None if context.callers is None else _caller(context.callers, runtime, request, downstream)
    if needs_checks:
        check_no_loop(request, context.via)
        check_hops(request)
    if path == b"*":
        check_asterisk(request)
    if runtime is None and token_requests.is_reserved(path):
        raise TokenAsked(caller)
    if runtime is None:
        raise no_route.refusal(context)
    return runtime, path, caller


def permit(runtime: RouteRuntime, request: RequestHead, caller: Caller | None) -> None:
    """Whether the route may be used like this, and by this caller. Raises Refusal."""
    if caller is not None:
        check_caller(runtime, request, caller)
    policy.check(runtime, request, caller)
    if request.fields.needs_checks:
        check_expectation(request)
        check_upgrade(request, permitted=runtime.websocket)


def check_audit(audit: AuditLog) -> None:
    """log.audit_required: no request is relayed whose line can't be written. Raises Refusal (503)."""
    if audit.refuses:
        raise Refusal(
            problems.OVERLOADED,
            "the audit log can't be written, and log.audit_required is set: see the proxy's log",
            retry_after=1,
        )


def check_caller(runtime: RouteRuntime, request: RequestHead, caller: Caller) -> None:
    if not caller.may_use(runtime.route.name):
        raise Refusal(
            problems.CALLER_DENIED, "this caller may not use this route: see `routes` of the caller"
        )
    if runtime.account_field:
        name = runtime.account_name(request)
        if name and not caller.may_name(name):
            raise Refusal(
                problems.CALLER_DENIED, "this caller may not use this account: see `accounts` of the caller"
            )


def _caller(
    callers: CallerTable, runtime: RouteRuntime | None, request: RequestHead, downstream: Downstream
) -> Caller | None:
    is_subject = runtime is not None and runtime.subject_field
    return callers.identify(
        request, downstream, _other_keys(callers, runtime, request) if is_subject else None
    )


def _has_safe_key(
    context: RelayContext, runtime: RouteRuntime | None, request: RequestHead, downstream: Downstream
) -> bool:
    """Whether a caller's key has come in a field that no web page can set without a preflight."""
    callers = context.callers
    if callers is None:
        return False
    return callers.by_field(request, downstream, _other_keys(callers, runtime, request)) is not None


def _other_keys(
    callers: CallerTable, runtime: RouteRuntime | None, request: RequestHead
) -> list[PresentedKey] | None:
    """The values that may be callers' keys, without the field of the caller's own token; None: all may."""
    if runtime is None or not runtime.subject_field or callers.keys is None:
        return None
    return subjects.other_keys(request, runtime.subject_field, callers.keys)


def _target(request: RequestHead) -> Target:
    try:
        return read_target(request.target)
    except MalformedRequest as error:
        raise problems.of_malformed(error) from error


def check_no_loop(request: RequestHead, via: bytes) -> None:
    """RFC 9110 section 7.6.3. `via`: our own name in a Via field."""
    if any(via in value for value in request.fields.index.get(b"via", ())):
        raise Refusal(problems.LOOP, "the route's upstream leads back to this proxy: check its URL")


def check_hops(request: RequestHead) -> None:
    """RFC 9110 section 7.6.2: Max-Forwards is for OPTIONS and TRACE. Raises AboutUs, Refusal."""
    values = request.fields.index.get(b"max-forwards")
    if request.method != b"OPTIONS" or values is None:
        return
    if len(values) > 1 or not values[0].isdigit() or len(values[0]) > MOST_DIGITS:
        raise Refusal(problems.BAD_REQUEST, "Max-Forwards must be one number")
    hops = int(values[0])
    if hops == 0:
        raise AboutUs
    request.forwarded_fields = headers.with_max_forwards(request.forwarded_fields, hops - 1)


def check_asterisk(request: RequestHead) -> None:
    """RFC 9112 section 3.2.4: asterisk-form is for OPTIONS only. Raises AboutUs, Refusal."""
    if request.method == b"OPTIONS":
        raise AboutUs
    raise Refusal(problems.BAD_REQUEST, "the request target * is for OPTIONS only")


def check_expectation(request: RequestHead) -> None:
    if any(value.lower() != b"100-continue" for value in request.fields.index.get(b"expect", ())):
        raise Refusal(
            problems.EXPECTATION_FAILED,
            "the only expectation supported is 100-continue: leave the field Expect out",
        )


def check_upgrade(request: RequestHead, *, permitted: bool) -> None:
    """Bytes after a request for WebSocket belong to the tunnel: a body could not be told from them.

    A length of 0 is no body (RFC 9112 section 6.3); Java's client sends it.
    """
    if not permitted or not request.wants_websocket or request.body is None:
        return
    if any(value.strip(b"0") for value in request.fields.index.get(b"content-length", [b"chunked"])):
        raise Refusal(problems.BAD_REQUEST, "a request for WebSocket must not have a body")
