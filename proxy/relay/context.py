"""What all connections share: the rules, the routes, the tokens, the log. Swapped whole on a reload."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.config.model import Limits
from proxy.descriptors import Descriptors
from proxy.logs import RequestLog
from proxy.metrics import Metrics
from proxy.relay import admission
from proxy.relay.admission import Hosts
from proxy.relay.answer import HOST_REFUSED, METHOD_REFUSED, NO_ROUTE, Refusal
from proxy.relay.lane import Lane
from proxy.relay.message import HeadLimits, RequestHead
from proxy.relay.target import read_target
from proxy.routes import RouteTable
from proxy.tokens.account import Account
from proxy.tokens.manager import TokenManager


@dataclass(slots=True)
class RelayContext:
    limits: Limits
    head_limits: HeadLimits
    hosts: Hosts
    table: RouteTable[Lane]
    tokens: TokenManager
    metrics: Metrics
    log: RequestLog
    via: bytes  # our own name in a Via field
    public_url: str
    draining: bool = False
    waiting: int = 0  # requests that wait for a token
    descriptors: Descriptors = field(default_factory=Descriptors)

    def admit(self, request: RequestHead, own: Lane | None, local_address: str) -> tuple[Lane, bytes]:
        """The route of a request, and its path. `own`: the route that has this listener to itself.

        Raises Refusal, by the first rule of the contract that it breaks; AboutUs.
        """
        if request.method in admission.REFUSED_METHODS:
            raise Refusal(METHOD_REFUSED, "TRACE and CONNECT are not relayed")
        path, absolute = read_target(request.target)
        if absolute is not None:
            request.authority = absolute.decode("latin-1")
        authority = request.authority
        host = local_address if authority is None else self.hosts.read(authority, local_address)
        if host is None:
            raise Refusal(HOST_REFUSED, "this proxy does not go by that Host; see server.allowed_hosts")
        if request.fields.telling:
            admission.check_not_from_page(request, authority)
            admission.check_no_loop(request, self.via)
            admission.check_hops(request)
        if path == b"*":
            admission.check_asterisk(request)
        lane = own or self.table.match(host, path)
        if lane is None:
            raise Refusal(NO_ROUTE, "no route of the configuration has this path or host")
        if request.fields.telling:
            admission.check_expectation(request)
            admission.check_upgrade(request, permitted=lane.websocket)
        return lane, path

    def count_refused(self, refusal: Refusal, *, routed: bool) -> None:
        self.metrics.refused.labels(refusal.case.ending).inc()
        if not routed:  # else the line of the request tells it
            self.log.refused(refusal.case.ending)

    def login_url(self, account: Account) -> str:
        """Where a person logs in to the account; empty where nobody can."""
        can_log_in = account.credential.grant == "authorization_code"
        return f"{self.public_url}/login/{account.key}" if can_log_in else ""
