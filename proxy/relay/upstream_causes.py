"""Why a request failed at its upstream: the causes beside those of failure_causes.py, and what to do next.

One text for a cause, in the problem document and in the log. All of it is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from proxy.config.address import Address
from proxy.config.model import Route
from proxy.failure_causes import Cause
from proxy.http.malformed import MalformedBody, MalformedResponse, ResponseKind
from proxy.relay import problems
from proxy.relay.problems import Case, Refusal

_HTTP: Final = "http_protocol_error"

# -- the connection cannot be made in time

LOOKUP_TIMEOUT: Final = Cause("lookup_timeout", "the name server does not respond", "dns_timeout")
HANDSHAKE_TIMEOUT: Final = Cause("tls_timeout", "no response to the TLS handshake", "connection_timeout")

# -- the exchange

ENDED_EARLY: Final = Cause(
    "ended_early", "it closed the connection before a response", "connection_terminated"
)
INCOMPLETE: Final = Cause(
    "incomplete", "it closed the connection within its response", "http_response_incomplete"
)
MALFORMED: Final = Cause("malformed", "malformed response", _HTTP)
NOT_HTTP: Final = Cause("not_http", "it does not speak HTTP/1.1 at this port", _HTTP)
HEAD_TOO_LARGE: Final = Cause(
    "head_too_large", "the header of its response is too large", "http_response_header_section_size"
)
RENEGOTIATION: Final = Cause("renegotiation", "it asked to renegotiate TLS", "tls_protocol_error")
NO_RESPONSE: Final = Cause("no_response", "no response in time", "http_response_timeout")
NOT_READING: Final = Cause("not_reading", "it stopped reading the request", "connection_write_timeout")
STALLED: Final = Cause("stalled", "it stopped within its response", "connection_read_timeout")

_OF_KIND: Final[Mapping[ResponseKind, Cause]] = {  # of MalformedResponse
    "malformed": MALFORMED,
    "not-http": NOT_HTTP,
    "too-large": HEAD_TOO_LARGE,
}


def of_malformed(error: MalformedResponse | MalformedBody) -> Cause:
    return _OF_KIND[error.kind] if isinstance(error, MalformedResponse) else MALFORMED


# -- the egress proxy, which is the next hop: RFC 9209 has its types for that

_PROXY: Final = "proxy_"  # begins their codes
PROXY_ENDS: Final = Cause(
    "proxy_no_response", "the egress proxy sends no response to CONNECT", "connection_terminated"
)
PROXY_TIMEOUT: Final = Cause(
    "proxy_timeout", "the egress proxy does not respond to CONNECT in time", "connection_timeout"
)
PROXY_NOT_HTTP: Final = Cause("proxy_not_http", "the egress proxy does not speak HTTP", _HTTP)
PROXY_SPEAKS: Final = Cause(
    "proxy_sends_data", "the egress proxy sends data after its response to CONNECT", _HTTP
)


def of_status(status: int) -> Cause:
    """Of the egress proxy's response to CONNECT, if it opens no tunnel."""
    if status in {401, 407}:  # 401: tinyproxy, to a wrong password
        said = f"the egress proxy rejects the user or password ({status})"
        return Cause("proxy_unauthorized", said, "proxy_configuration_error")
    return Cause(
        "proxy_refuses", f"the egress proxy refuses the tunnel ({status})", "destination_unavailable"
    )


def of_egress(cause: Cause) -> Cause:
    """`cause` of a connection to the egress proxy instead of to the upstream."""
    return Cause(
        _PROXY + cause.code, f"the egress proxy can't be reached: {cause.sentence}", cause.proxy_error
    )


# -- sentences

_BEGINNINGS: Final[Mapping[Case, str]] = {
    problems.UNREACHABLE: "the upstream of route {route!r} can't be reached",
    problems.CONNECT_TIMEOUT: "the upstream of route {route!r} is slow to connect",
    problems.UPSTREAM_TLS: "TLS with the upstream of route {route!r} failed",
    problems.UPSTREAM_PROTOCOL: "the upstream of route {route!r} failed",
    problems.RESPONSE_TIMEOUT: "the upstream of route {route!r} is too slow",
}
_RUNS: Final = "check that it runs, and `upstream` of the route"
_CA: Final = "to trust a private authority: tls = { ca = FILE } of the route"
_CLIENT_CERTIFICATE: Final = "check cert and key in `tls` of the route"
_NAME: Final = "check the name in `upstream` of the route"
_EGRESS: Final = "check `proxy` of the route"
_REMEDIES: Final[Mapping[str, str]] = {
    "refused": _RUNS,
    "reset": _RUNS,
    "unreachable": _RUNS,
    "no_network_route": "check this machine's network, and `upstream` of the route",
    "not_permitted": "check the firewall, or the permissions of the unix socket",
    "no_such_socket": _RUNS,
    "queue_full": "it accepts connections too slowly",
    "connect_timeout": "check the network and firewalls between; see limits.connect",
    "no_such_host": _NAME,
    "lookup_failed": _NAME,
    "lookup_unavailable": "check the name servers of this machine",
    LOOKUP_TIMEOUT.code: "check the name servers of this machine",
    HANDSHAKE_TIMEOUT.code: "check the port in `upstream` of the route; see limits.connect",
    "certificate_self_signed": _CA,
    "certificate_unknown_authority": _CA,
    "certificate_expired": "renew it at the upstream, and check this machine's clock",
    "certificate_not_yet_valid": "check this machine's clock",
    "certificate_wrong_name": "to expect another name: tls = { server_name = NAME } of the route",
    "certificate_too_weak": "renew it at the upstream",
    "certificate_wrong_purpose": "renew it at the upstream, for servers",
    "certificate_revoked": "renew it at the upstream",
    "not_tls": "check the scheme and port in `upstream` of the route",
    "tls_version": "enable TLS 1.2 or 1.3 at the upstream",
    "tls_refused": _CLIENT_CERTIFICATE,
    "tls_alert": _CLIENT_CERTIFICATE,
    "client_certificate_needed": "set tls = { cert = FILE, key = FILE } of the route",
    "client_certificate_refused": _CLIENT_CERTIFICATE,
    "tls_unknown_name": _NAME,
    RENEGOTIATION.code: "it must ask for a certificate in the handshake",
    NOT_HTTP.code: "check the scheme and port in `upstream` of the route",
    HEAD_TOO_LARGE.code: "see limits.header_size, field_size and fields",
    NO_RESPONSE.code: "see limits.first_byte",
    NOT_READING.code: "see limits.body_stall",
    STALLED.code: "see limits.body_stall",
    "proxy_unauthorized": "check the user and password in `proxy` of the route",
    "proxy_refuses": "permit this host and port there",
    PROXY_TIMEOUT.code: "see limits.connect",
}


def refusal(case: Case, cause: Cause, route: Route) -> Refusal:
    """The response to a request whose upstream failed with `case`."""
    remedy = _REMEDIES.get(cause.code) or (_EGRESS if cause.code.startswith(_PROXY) else "")
    detail = f"{_BEGINNINGS[case].format(route=route.name)}: {cause.sentence}"
    return Refusal(case, f"{detail} ({remedy})" if remedy else detail, cause=cause)


def peer_of(cause: Cause, route: Route) -> str:
    """The peer that failed, as configured: host:port or the path of a unix socket."""
    if cause.code.startswith(_PROXY) and route.proxy is not None:
        return str(route.proxy.address)
    upstream = route.upstream
    if upstream.field:
        return upstream.origin
    return f"unix:{upstream.unix_path}" if upstream.unix_path else str(Address(upstream.host, upstream.port))
