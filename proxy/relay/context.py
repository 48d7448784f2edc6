"""The state that all connections share: limits, routes, tokens, log. Replaced as a whole on a reload."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.config.model import Limits
from proxy.fd_limits import Descriptors
from proxy.hosts import Hosts
from proxy.http.message import HeadLimits
from proxy.observe.metrics import Metrics
from proxy.observe.request_log import RequestLog
from proxy.relay import phases
from proxy.relay.callers import CallerTable
from proxy.relay.problems import Refusal
from proxy.relay.runtime import RouteRuntime
from proxy.routes import RouteTable
from proxy.tokens.account import Account
from proxy.tokens.manager import TokenManager


@dataclass(slots=True)
class RelayContext:
    limits: Limits
    head_limits: HeadLimits
    hosts: Hosts
    table: RouteTable[RouteRuntime]
    tokens: TokenManager
    metrics: Metrics
    log: RequestLog
    via: bytes  # our own name in a Via field
    public_url: str
    callers: CallerTable | None = None  # None: everyone may use everything
    draining: bool = False
    ports: set[int] = field(default_factory=set)  # of all our listeners, the admin pages' too
    waiting: int = 0  # requests that are waiting for a token
    descriptors: Descriptors = field(default_factory=Descriptors)
    timeouts: list[float] = field(init=False)  # seconds, by the number of an exchange's phase

    def __post_init__(self) -> None:
        self.timeouts = phases.timeouts(self.limits)

    def count_refused(self, refusal: Refusal, *, routed: bool) -> None:
        self.metrics.refused.labels(refusal.case.ending).inc()
        if not routed:  # else the request's own log line has it
            self.log.refused(refusal.case.ending)

    def login_url(self, account: Account) -> str:
        """The URL of the account's login; empty if its grant needs none."""
        return f"{self.public_url}/login/{account.key}" if account.grant.needs_person else ""
