"""A route made ready for traffic: everything its requests need, computed once."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from proxy.config.address import Upstream
from proxy.config.attach import Attach, AttachField
from proxy.config.model import AccountHeader, Limits, Route
from proxy.config.route_fields import AUTHORIZATION
from proxy.config.upstream_hosts import NotAllowed, resolve
from proxy.config.values import ACCOUNT_NAME
from proxy.http import fields
from proxy.http.body import keep_from_trailers
from proxy.http.headers import RouteFields
from proxy.http.message import HeadLimits, RequestHead
from proxy.http.policy import policy_of
from proxy.observe.metrics import Metrics
from proxy.relay import problems, subjects
from proxy.relay.callers import Caller
from proxy.relay.dialer import Dialer
from proxy.relay.failure_log import FailureLog
from proxy.relay.idle import IdleConnections
from proxy.relay.pool import Pool
from proxy.relay.problems import Refusal
from proxy.relay.tls_sessions import Sessions, cache
from proxy.relay.web_pages import Pages
from proxy.tokens.account import Account
from proxy.tokens.attachment import Attachment, parameters_of
from proxy.tokens.last_attempts import Unauthorized
from proxy.tokens.manager import TokenManager

# Seconds. A 401 to a token this new is not about its age; longer than between two refreshes by 401s.
NEW_TOKEN: Final = 60.0
POOLS: Final = 4096  # accounts of one route whose connections are kept


class RouteRuntime:
    """One route with its connections and its metrics."""

    def __init__(
        self,
        route: Route,
        limits: Limits,
        tokens: TokenManager,
        metrics: Metrics,
        tls: ssl.SSLContext | None,
        fixed: Account | None,
        heads: HeadLimits,
        idle: IdleConnections,
        attach: Sequence[Attach] = (),
        subject_field: bytes = b"",
        listed: RouteRuntime | None = None,
        *,
        proves: bool = False,
    ) -> None:
        """`fixed`: the account of all requests; None if each request names one.

        `heads`: what reading responses remembers, for all routes. `idle`: their idle connections.
        `attach`, `subject_field`: of the credential.
        `listed`: the route as configured, for one of its upstreams that a token response names (`of_token`).
        `proves`: its tokens need a proof for each request.
        """
        self.route = route
        self.name = route.name  # these two are read for each request
        self.credential = route.credential
        self.host = route.host or ""
        self.prefix = b"" if route.path in {None, "/"} else str(route.path).encode("ascii")
        self.base = route.upstream.base.encode("ascii")
        self.strip = route.strip_path
        self.authority = route.upstream.authority.encode("ascii")
        self.websocket = route.websocket
        self.forwarded = route.forwarded
        self.pages = _pages(route)
        self.own_fields = _own_fields(route, attach)
        self.passes_authorization = route.caller_authorization == "pass"
        self.parameters = parameters_of(attach)  # of responses' links
        self.changes_fields = route.forwarded or self.own_fields is not None or self.passes_authorization
        self.policy = policy_of(route.methods, route.allow, route.deny)
        self.tls, self._tokens, self._metrics, self._limits = tls, tokens, metrics, limits
        self.sessions = Sessions(cache)  # of `tls`
        self.half_closed = limits.half_closed if route.half_closed is None else route.half_closed
        self.in_flight = 0
        self.failures = FailureLog(route)
        self._attach = attach
        self.proves = proves
        self.origin = f"{route.upstream.scheme}://{route.upstream.authority}"
        self._dialer = Dialer(route, tls, limits, heads, idle, sessions=self.sessions)
        self._pools: OrderedDict[str, Pool] = OrderedDict()  # by account, the last used at the end
        self._former: list[Pool] = []  # no longer in `_pools`, but some request still uses or awaits them
        self.fixed = fixed
        self.listed: RouteRuntime = listed or self  # the one in the table of routes
        self.moves = listed is None and bool(route.upstream.field)  # its upstreams are in `_by_value`
        self._by_value: OrderedDict[str, RouteRuntime] = OrderedDict()  # the last used at the end
        self._former_upstreams: list[RouteRuntime] = []  # no longer there, but some request still uses them
        self.fixed_pool = Pool(self._dialer) if fixed and not self.moves else None
        self.subject_field = subject_field  # the field, in lower case, with each caller's own token
        self.account_field = _account_field(route)
        self.tally = metrics.requests.of(route.name)

    def is_of(
        self,
        route: Route,
        limits: Limits,
        tls: ssl.SSLContext | None,
        fixed: Account | None,
        attach: Sequence[Attach] = (),
        subject_field: bytes = b"",
        *,
        proves: bool = False,
    ) -> bool:
        """Whether it was made of the same: then it goes on after a reload, with its connections."""
        is_same = self.tls is tls and self.fixed is fixed and self._attach == attach and self.proves == proves
        is_same = is_same and self.subject_field == subject_field
        return is_same and self.route == route and self._limits == limits

    def account(self, request: RequestHead, caller: Caller | None) -> Account:
        """The account of a request; a field that names it is not forwarded. Raises Refusal (400)."""
        if self.fixed is not None:
            return self.fixed
        if self.subject_field:
            return self._tokens.exchanged(self.credential, subjects.take(request, self.subject_field))
        if not self.account_field:
            assert caller is not None  # such a route requires callers: config/caller_checks.py
            return self._tokens.account(self.route.credential, caller.account)
        name = self.account_name(request)
        if not name:
            raise Refusal(
                problems.ACCOUNT_INVALID,
                f"this route needs the name of one account, once, in the field {self.account_field.decode()}",
            )
        names = frozenset((fields.plain(self.account_field),))
        request.forwarded_fields = fields.without(names, request.forwarded_fields)
        keep_from_trailers(request.body, names)
        return self._tokens.account(self.route.credential, name)

    def account_name(self, request: RequestHead) -> str:
        """The account that a request names in `account_field`; empty if it names none, or not one."""
        values = fields.values(request.fields.block, self.account_field)
        name = values[0].decode("latin-1") if len(values) == 1 else ""
        return name if ACCOUNT_NAME.fullmatch(name) else ""

    def of_token(self, attachment: Attachment) -> RouteRuntime:
        """Where `moves`: the same route with the upstream that the token's response names.

        Raises Refusal (503): nothing may be sent.
        """
        field = self.route.upstream.field
        value = attachment.upstreams.get(field, "")
        runtime = self._by_value.get(value)
        if runtime is not None:
            self._by_value.move_to_end(value)
            return runtime
        try:
            if not value:
                raise NotAllowed("is missing")
            upstream = resolve(self.route.upstream, value, self.route.upstream_hosts)
        except NotAllowed as error:
            raise problems.no_upstream(self.route, field, str(error)) from None
        runtime = self._by_value[value] = self._at(upstream)
        if len(self._by_value) > POOLS:
            former = self._by_value.popitem(last=False)[1]
            former.retire()
            self._former_upstreams.append(former)
        return runtime

    def _at(self, upstream: Upstream) -> RouteRuntime:
        route = self.route.model_copy(update={"upstream": upstream})
        return RouteRuntime(
            route,
            self._limits,
            self._tokens,
            self._metrics,
            self.tls,
            self.fixed,
            self._dialer.head_limits,
            self._dialer.idle,
            self._attach,
            self.subject_field,
            self,
            proves=self.proves,
        )

    def pool(self, account: Account) -> Pool:
        """The connections that carry this account's requests only."""
        if self.fixed_pool is not None:
            return self.fixed_pool
        name = account.key.account
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = Pool(self._dialer)
            if len(self._pools) > POOLS:
                self._forget(self._pools.popitem(last=False)[1])
        else:
            self._pools.move_to_end(name)
        return pool

    def _forget(self, pool: Pool) -> None:
        pool.retire()
        if not pool.is_empty:
            self._former.append(pool)

    @property
    def requests(self) -> int:
        """In flight, at all its upstreams."""
        return self.in_flight + sum(each.in_flight for each in self._elsewhere())

    @property
    def idle(self) -> int:
        """Open upstream connections without a request."""
        return sum(pool.idle for pool in self._each_pool())

    @property
    def active(self) -> int:
        return sum(pool.active for pool in self._each_pool())

    @property
    def queued(self) -> int:
        """Requests that wait for a connection."""
        return sum(pool.queued for pool in self._each_pool())

    def _each_pool(self) -> list[Pool]:
        if self.moves:
            return [pool for each in self._elsewhere() for pool in each._each_pool()]  # noqa: SLF001
        return [self.fixed_pool] if self.fixed_pool else [*self._pools.values(), *self._former]

    def _elsewhere(self) -> list[RouteRuntime]:
        return [*self._by_value.values(), *self._former_upstreams]

    def look(self, now: float) -> None:
        """The sweep, with the loop's time."""
        if self.moves:
            self._look_elsewhere(now)
            return
        for pool in self._each_pool():
            pool.look(now)
        if self._former:
            self._former = [pool for pool in self._former if not pool.is_empty]

    def _look_elsewhere(self, now: float) -> None:
        for each in self._elsewhere():
            each.look(now)
        self._former_upstreams = [each for each in self._former_upstreams if not each.is_over]

    @property
    def is_over(self) -> bool:
        """Whether nothing uses it."""
        return not self.in_flight and all(pool.is_empty for pool in self._each_pool())

    def retire(self) -> None:
        """Keep no idle connections from now on: the requests in flight are its last."""
        for each in (self, *self._elsewhere()):
            each.sessions.retire()
        for pool in self._each_pool():
            pool.retire()

    def close(self) -> None:
        for each in (self, *self._elsewhere()):
            each.sessions.retire()
        for pool in self._each_pool():
            pool.close()

    # -- counting

    def replayed(self) -> None:
        """A 401 of the upstream: the request is sent again with another token."""
        self._count_401("replayed")

    def returned(self, account: Account, attachment: Attachment, now: float) -> None:
        """A 401 of the upstream to this token passes. `now`: loop time."""
        self._count_401("returned")
        if attachment is not account.attachment:
            return
        if account.grant.is_fixed:
            self.failures.value_refused(now)
        elif 0 <= account.token_age < NEW_TOKEN:
            self.failures.unauthorized(account.token_age, now)
        else:
            return
        account.unauthorized = Unauthorized(self._tokens.clock.wall(), self.name)

    def _count_401(self, action: str) -> None:
        self._metrics.upstream_unauthorized.labels(self.route.name, action).inc()
        self._metrics.last_unauthorized.labels(self.route.name).set_to_current_time()

    def upstream_failed(self, refusal: Refusal, now: float) -> None:
        """`now`: loop time."""
        ending, cause = refusal.case.ending, refusal.cause
        self._metrics.upstream_errors.labels(self.route.name, ending).inc()
        if cause is not None:
            self.failures.failed(ending, cause, now)


def _account_field(route: Route) -> bytes:
    """The field in which each request names its account, in lower case; empty if none does."""
    account = route.account
    return account.header.lower().encode("ascii") if isinstance(account, AccountHeader) else b""


def _pages(route: Route) -> Pages:
    methods = None if route.methods is None else tuple(name.encode("ascii") for name in route.methods)
    return Pages(frozenset(origin.encode("ascii") for origin in route.origins), methods)


def _own_fields(route: Route, attach: Sequence[Attach]) -> RouteFields | None:
    """Where the token takes a field, the caller's is dropped; Authorization always is, by other rules."""
    taken = [each.header for each in attach if isinstance(each, AttachField) and each.field != AUTHORIZATION]
    if not route.headers and not route.drop and not taken:
        return None
    values = {name: value.reveal() for name, value in route.headers.items()}
    return RouteFields(values, (*route.drop, *taken))
