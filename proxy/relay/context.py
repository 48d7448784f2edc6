"""What all connections share. A reload makes another RelayContext, and swaps them by one assignment.

An exchange keeps the context that it began with. `Lasting` is the part that outlives a reload.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from proxy.config.model import Limits
from proxy.fd_limits import Descriptors
from proxy.hosts import Hosts
from proxy.http.message import HeadLimits
from proxy.observe.audit import AuditLog
from proxy.observe.metrics import Metrics
from proxy.observe.request_log import RequestLog
from proxy.relay import phases
from proxy.relay.callers import CallerTable
from proxy.relay.idle import IdleConnections
from proxy.relay.problems import Refusal
from proxy.relay.runtime import RouteRuntime
from proxy.routes import RouteTable
from proxy.tokens.account import Account
from proxy.tokens.manager import TokenManager

SHARED: Final = 0  # the number of the listeners that all routes share


@dataclass(slots=True)
class Lasting:
    """The part of all contexts that outlives a reload."""

    ports: set[int] = field(default_factory=set)  # of all our listeners, the admin pages' too
    waiting: int = 0  # requests that are waiting for a token
    descriptors: Descriptors = field(default_factory=Descriptors)
    idle: IdleConnections = field(init=False)  # to the upstreams of all routes
    heads: HeadLimits | None = None  # of all routes; see `heads_of`

    def __post_init__(self) -> None:
        self.idle = IdleConnections(self.descriptors)
        self.descriptors.spare = self.idle

    def heads_of(self, limits: Limits) -> HeadLimits:
        """What reading responses remembers: one memory for all routes, until a reload changes its limits."""
        wanted = (limits.header_size, limits.field_size, limits.fields)
        heads = self.heads
        if heads is None or (heads.header_size, heads.field_size, heads.fields) != wanted:
            heads = self.heads = HeadLimits(*wanted)
        return heads


@dataclass(slots=True)
class RelayContext:
    limits: Limits
    head_limits: HeadLimits
    hosts: Hosts
    runtimes: list[RouteRuntime]
    table: RouteTable[RouteRuntime]
    tokens: TokenManager
    metrics: Metrics
    log: RequestLog
    via: bytes  # our own name in a Via field
    public_url: str
    audit: AuditLog | None = None  # None: not configured
    callers: CallerTable | None = None  # None: everyone may use everything
    own: dict[int, RouteRuntime] = field(default_factory=dict)  # by the number of a route's own listener
    lasting: Lasting = field(default_factory=Lasting)
    draining: bool = False
    says_decisions: bool = False  # log them at level debug: decisions.py
    timeouts: list[float] = field(init=False)  # seconds, by the number of an exchange's phase

    def __post_init__(self) -> None:
        self.timeouts = phases.timeouts(self.limits)

    @property
    def descriptors(self) -> Descriptors:
        return self.lasting.descriptors

    def is_closed(self, listener: int) -> bool:
        """Whether the connections of this listener end after their exchange."""
        return self.draining or (listener != SHARED and listener not in self.own)

    def count_refused(self, refusal: Refusal, *, routed: bool) -> None:
        self.metrics.refused.labels(refusal.case.ending).inc()
        if not routed:  # else the request's own log line has it
            self.log.refused(refusal.case.ending)

    def login_url(self, account: Account) -> str:
        """The URL of the account's login; empty if its grant needs none."""
        return f"{self.public_url}/login/{account.key}" if account.grant.needs_person else ""
