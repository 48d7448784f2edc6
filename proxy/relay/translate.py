"""Fields that depend on the route and on the caller's view of this proxy: links, cookies, CORS,
X-Forwarded-*, and those that a route sets or drops.

Called only for messages that have or get any of them, which most do not. The rules are in http/mapping.py,
http/cookies.py and http/rewrite.py: here they are given what they need of the running process.
"""

from __future__ import annotations

import logging
import re
from typing import Final

from proxy.config.address import DEFAULT_PORTS
from proxy.hosts import is_localhost
from proxy.http import cors, headers, rewrite
from proxy.http.body import keep_from_trailers
from proxy.http.malformed import MalformedRequest
from proxy.http.mapping import Mapping
from proxy.http.message import RequestHead, ResponseHead
from proxy.relay import problems
from proxy.relay.context import RelayContext
from proxy.relay.interfaces import Downstream
from proxy.relay.runtime import RouteRuntime

_PORT: Final = re.compile(r":([0-9]{1,5})\Z")

_log = logging.getLogger("proxy.relay")


def to_upstream(
    context: RelayContext, runtime: RouteRuntime, request: RequestHead, caller: Downstream
) -> None:
    """Rewrite the request's fields for the upstream. Raises Refusal (400)."""
    if runtime.passes_authorization:
        sent = request.fields
        request.forwarded_fields += headers.own_authorization(
            sent.block, sent.nominated, context.head_limits.keys
        )
    if request.fields.has_links:
        mapping = _mapping(context, runtime, request, caller)
        try:
            request.forwarded_fields = rewrite.request_fields(request.forwarded_fields, mapping)
        except MalformedRequest as error:
            raise problems.of_malformed(error) from error
    own = runtime.own_fields
    if own is not None:
        request.forwarded_fields = own.apply(request.forwarded_fields)
        keep_from_trailers(request.body, own.names)
    if runtime.forwarded:
        request.forwarded_fields += _forwarded(request, caller)


def _forwarded(request: RequestHead, caller: Downstream) -> bytes:
    """The caller as we see it; its own fields of these names have been removed (headers.py)."""
    lines = [b"\r\nX-Forwarded-Proto: " + (b"https" if caller.is_tls else b"http")]
    if caller.peer_address:
        lines.insert(0, b"\r\nX-Forwarded-For: " + caller.peer_address.encode("ascii"))
    if request.authority:
        lines.append(b"\r\nX-Forwarded-Host: " + request.authority.encode("latin-1"))
    return b"".join(lines)


def to_caller(
    context: RelayContext,
    runtime: RouteRuntime,
    request: RequestHead,
    caller: Downstream,
    head: ResponseHead,
) -> ResponseHead:
    """The response's head, rewritten for the caller."""
    fields = head.forwarded_fields
    if not is_localhost(_host(context, request, caller) or "localhost"):
        fields = headers.of_response_elsewhere(head.block, head.nominated, to_page=bool(request.page))
    if head.has_links:
        fields, dropped = rewrite.response_fields(fields, _mapping(context, runtime, request, caller))
        if dropped:
            name = runtime.route.name
            extra = {"event": "link_dropped", "route": name}
            _log.warning(
                "dropped a link of route %s: it leads to a listener of this proxy, or has no valid host",
                name,
                extra=extra,
            )
    if request.page:
        fields += cors.response_fields(request.page)
    return head.with_fields(fields) if fields is not head.forwarded_fields else head


def _host(context: RelayContext, request: RequestHead, caller: Downstream) -> str:
    """The host by which the caller addressed this proxy, as in admission.py; empty on a unix socket."""
    if request.authority is None:
        return caller.local_address
    return context.hosts.read(request.authority, caller.local_address) or ""


def _mapping(
    context: RelayContext, runtime: RouteRuntime, request: RequestHead, caller: Downstream
) -> Mapping:
    host, authority = _host(context, request, caller), request.authority or ""
    scheme = "https" if caller.is_tls else "http"
    named_port = _PORT.search(authority)  # may differ from ours: a tunnel or a TLS proxy in front of us
    own = {int(named_port[1])} if named_port else set(DEFAULT_PORTS.values())
    has_listener = runtime.route.listen is not None

    def is_route(place: bytes) -> bool:
        return has_listener or context.table.match(host, place) is runtime.listed

    def is_own(named: bytes, at: int) -> bool:
        return (at in own or at in context.lasting.ports) and context.hosts.leads_here(
            named.decode("latin-1"), caller.local_address
        )

    return Mapping(
        upstream=runtime.route.upstream,
        prefix=runtime.prefix,
        strip=runtime.strip,
        path=request.path,
        origin=f"{scheme}://{authority.removesuffix(':')}".encode("latin-1") if authority else b"",
        secure=caller.is_tls,
        is_route=is_route,
        is_own=is_own,
        parameters=runtime.parameters,
    )
