"""All metrics, except those of requests (request_metrics.py).

The values of labels are names from the configuration or the store, or from fixed lists. Values that depend
on the time (states, expiry) are read from the tokens at each scrape, by `TokenCollector`; events are counted
where they happen.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy.observe.process_metrics import ProcessMetrics
from proxy.observe.request_metrics import CallerRequests, RequestMetrics

PREFIX: Final = "token_proxy_"
_TOKEN: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
TOKEN_WAIT: Final = (
    *_TOKEN,
    30,
    60,
    120,
    300,
)  # a wait that reaches its limit (15 s) ends just above 15
Counts = Mapping[str, Mapping[str, int]]  # credential -> state -> accounts


@dataclass(frozen=True, slots=True)
class TokenHealth:
    """One account as exported: times in Unix seconds, None if unknown."""

    credential: str
    account: str
    state: str
    issued_at: float | None
    expires_at: float | None
    refresh_due_at: float | None
    refresh_expires_at: float | None
    last_success_at: float | None
    failures: int
    login_required: bool  # a person must act


class Metrics:
    """The counters and histograms, bound to one registry."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # otherwise each series would be doubled
        self.registry = CollectorRegistry()
        self.account_counts: Counts = {}  # of all accounts in the store; set before a scrape
        self.token_refreshes = self._counter(
            "token_refreshes",
            "Requests to a token endpoint, by outcome and error code.",
            "credential",
            "outcome",
            "error",
        )
        self.token_refresh_duration = self._histogram(
            "token_refresh_duration_seconds",
            "Duration of requests to a token endpoint.",
            _TOKEN,
            "credential",
        )
        self.token_wait = self._histogram(
            "token_wait_seconds", "Time that a request waited for a token.", TOKEN_WAIT, "credential"
        )
        self.store_writable = self._gauge(
            "store_writable", "1 if the last write to the store succeeded, else 0."
        )
        self.store_writable.set(1)  # it could be opened
        self.tokens_unsaved = self._gauge(
            "tokens_unsaved", "Accounts with a new token that could not be saved yet and is not used."
        )
        self.requests = RequestMetrics(PREFIX, self.registry)
        self.caller_requests = CallerRequests(PREFIX, self.registry)
        self.requests_in_flight = self._gauge("requests_in_flight", "Requests being served now.", "route")
        self.upstream_unauthorized = self._counter(
            "upstream_unauthorized",
            "401 responses of the upstream, by action: replayed with a new token, or returned.",
            "route",
            "action",
        )
        self.upstream_connections = self._gauge(
            "upstream_connections", "Open connections to the upstream.", "route", "state"
        )
        self.upstream_errors = self._counter(
            "upstream_errors",
            "Exchanges that failed at the upstream: unreachable, TLS, protocol or timeout.",
            "route",
            "error",
        )
        self.refused = self._counter("refused", "Requests refused by the proxy itself, by reason.", "reason")
        build = self._gauge(
            "build_info", "Versions of token-proxy and Python; always 1.", "version", "python"
        )
        build.labels(version("token-proxy"), platform.python_version()).set(1)
        ProcessMetrics(PREFIX, self.registry)
        ProcessCollector(namespace="token_proxy", registry=self.registry)

    def show_tokens(
        self, read: Callable[[], Iterable[TokenHealth]], states: Iterable[str], limit: Callable[[], int]
    ) -> None:
        """Export the health of the accounts that `read` returns, by name.

        A credential with more than `limit()` accounts (by `account_counts`) is shown by states only.
        """
        self.registry.register(TokenCollector(read, lambda: self.account_counts, tuple(states), limit))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=self.registry)


_GAUGES: Final[tuple[tuple[str, str, str], ...]] = (  # name, help, attribute of TokenHealth
    ("token_expiry_timestamp_seconds", "Unix time at which the access token expires.", "expires_at"),
    ("token_issued_timestamp_seconds", "Unix time at which the access token was issued.", "issued_at"),
    (
        "token_refresh_due_timestamp_seconds",
        "Unix time at which the access token will be refreshed.",
        "refresh_due_at",
    ),
    (
        "token_last_refresh_success_timestamp_seconds",
        "Unix time of the last successful refresh by this process.",
        "last_success_at",
    ),
    (
        "refresh_token_expiry_timestamp_seconds",
        "Unix time at which the refresh token expires.",
        "refresh_expires_at",
    ),
    ("token_refresh_failures_consecutive", "Failed refreshes since the last successful one.", "failures"),
    ("login_required", "1 if a person must act: log in, or provide a new refresh token.", "login_required"),
)


class TokenCollector(Collector):
    """Converts the health of the tokens to samples at each scrape."""

    def __init__(
        self,
        read: Callable[[], Iterable[TokenHealth]],
        counts: Callable[[], Counts],
        states: tuple[str, ...],
        limit: Callable[[], int],
    ) -> None:
        self._read = read
        self._counts = counts
        self._states = states
        self._limit = limit

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()  # nothing to check for clashes before the first scrape

    def collect(self) -> Iterator[GaugeMetricFamily]:
        limit = self._limit()
        many = {name: counts for name, counts in self._counts().items() if sum(counts.values()) > limit}
        named = [health for health in self._read() if health.credential not in many]
        families = [self._states_of(named, many), *(_gauge(named, *row) for row in _GAUGES)]
        yield from (family for family in families if family.samples)

    def _states_of(self, named: list[TokenHealth], many: Counts) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            PREFIX + "token_state",
            "1 for the current state of the account, else 0; with an empty account: accounts in this state.",
            labels=("credential", "account", "state"),
        )
        for state in self._states:
            for health in named:
                labels = (health.credential, health.account, state)
                family.add_metric(labels, float(health.state == state))
            for credential, counts in many.items():
                family.add_metric((credential, "", state), counts.get(state, 0))
        return family


def _gauge(named: list[TokenHealth], name: str, text: str, attribute: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, text, labels=("credential", "account"))
    for health in named:
        value = getattr(health, attribute)
        if value is not None:
            family.add_metric((health.credential, health.account), float(value))
    return family
