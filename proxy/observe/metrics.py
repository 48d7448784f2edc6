"""Every metric, one list. Labels hold names from the configuration or the store, or a fixed list.

What changes with time alone (states, expiry) is read from the tokens when somebody scrapes, by
`TokenCollector`; what happens is counted where it happens.
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

from proxy.observe.request_metrics import RequestMetrics

PREFIX: Final = "token_proxy_"
_TOKEN: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
Counts = Mapping[str, Mapping[str, int]]  # credential -> state -> accounts


@dataclass(frozen=True, slots=True)
class TokenHealth:
    """One account as it is shown: times in Unix seconds, None where unknown."""

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
        disable_created_metrics()  # type: ignore[no-untyped-call]  # without this each series is doubled
        self.registry = CollectorRegistry()
        self.account_counts: Counts = {}  # all that the store holds; set before a scrape
        self.token_refreshes = self._counter(
            "token_refreshes",
            "Requests to a token endpoint by what they came to",
            "credential",
            "outcome",
            "error",
        )
        self.token_refresh_duration = self._histogram(
            "token_refresh_duration_seconds", "How long a token endpoint took", _TOKEN, "credential"
        )
        self.token_wait = self._histogram(
            "token_wait_seconds", "How long a request waited for a token", _TOKEN, "credential"
        )
        self.store_writable = self._gauge("store_writable", "1 if the last write to the store worked, else 0")
        self.store_writable.set(1)  # it could be opened
        self.tokens_unsaved = self._gauge(
            "tokens_unsaved", "Accounts whose new token is not used until it can be saved"
        )
        self.requests = RequestMetrics(PREFIX, self.registry)
        self.requests_in_flight = self._gauge("requests_in_flight", "Requests under way", "route")
        self.upstream_unauthorized = self._counter(
            "upstream_unauthorized", "Answers 401, and what was done with them", "route", "action"
        )
        self.upstream_connections = self._gauge(
            "upstream_connections", "Connections to an upstream", "route", "state"
        )
        self.upstream_errors = self._counter(
            "upstream_errors", "Exchanges an upstream broke", "route", "error"
        )
        self.refused = self._counter("refused", "Requests answered by the proxy itself", "reason")
        build = self._gauge("build_info", "What runs here", "version", "python")
        build.labels(version("token-proxy"), platform.python_version()).set(1)
        ProcessCollector(namespace="token_proxy", registry=self.registry)

    def show_tokens(
        self, read: Callable[[], Iterable[TokenHealth]], states: Iterable[str], limit: int
    ) -> None:
        """Export the health of the tokens that `read` gives, by name.

        A credential with more than `limit` accounts (by `account_counts`) is shown by states alone.
        """
        self.registry.register(TokenCollector(read, lambda: self.account_counts, tuple(states), limit))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=self.registry)


_GAUGES: Final[tuple[tuple[str, str, str], ...]] = (  # name, help, attribute of TokenHealth
    ("token_expiry_timestamp_seconds", "When the access token expires", "expires_at"),
    ("token_issued_timestamp_seconds", "When the access token was issued", "issued_at"),
    ("token_refresh_due_timestamp_seconds", "When it will be refreshed", "refresh_due_at"),
    ("token_last_refresh_success_timestamp_seconds", "The last success of this process", "last_success_at"),
    ("refresh_token_expiry_timestamp_seconds", "When the refresh token expires", "refresh_expires_at"),
    ("token_refresh_failures_consecutive", "Failed refreshes since the last success", "failures"),
    ("login_required", "1 if a person must act: log in, or give a new refresh token", "login_required"),
)


class TokenCollector(Collector):
    """Turns the tokens' health into samples at each scrape."""

    def __init__(
        self,
        read: Callable[[], Iterable[TokenHealth]],
        counts: Callable[[], Counts],
        states: tuple[str, ...],
        limit: int,
    ) -> None:
        self._read = read
        self._counts = counts
        self._states = states
        self._limit = limit

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()  # nothing to check for clashes before the first scrape

    def collect(self) -> Iterator[GaugeMetricFamily]:
        many = {name: counts for name, counts in self._counts().items() if sum(counts.values()) > self._limit}
        named = [health for health in self._read() if health.credential not in many]
        families = [self._states_of(named, many), *(_gauge(named, *row) for row in _GAUGES)]
        yield from (family for family in families if family.samples)

    def _states_of(self, named: list[TokenHealth], many: Counts) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            PREFIX + "token_state",
            "1 for the state that the account is in; without an account, how many are in it",
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
