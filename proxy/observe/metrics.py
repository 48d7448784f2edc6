"""All metrics, except those of requests (request_metrics.py) and of the process (process_metrics.py).

The values of labels are names from the configuration or the store, or from fixed lists. Values that depend
on the time (states, expiry) are read from the tokens at each scrape (token_metrics.py); events are counted
where they happen. A counter whose labels are known exists from the start, at 0: Prometheus's `increase()`
does not see the step from nothing to 1.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
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

from proxy import compiled
from proxy.observe.process_metrics import ProcessMetrics
from proxy.observe.request_metrics import CallerRequests, RequestMetrics
from proxy.observe.token_metrics import Counts, SecretCollector, TokenCollector, TokenHealth

PREFIX: Final = "token_proxy_"
_TOKEN: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
TOKEN_WAIT: Final = (
    *_TOKEN,
    30,
    60,
    120,
    300,
)  # a wait that reaches its limit (15 s) ends just above 15
OUTCOMES: Final = ("success", "transient", "misconfigured", "login_required")  # of a token request
# Error codes that exist from the start: those by which alerts tell the causes of failures apart. The others
# of the fixed list appear with their first event, or each credential would have fifty series.
ERRORS: Final = ("invalid_grant", "invalid_client", "unreachable", "tls", "timeout", "http_5xx", "other")
LOGIN_OUTCOMES: Final = ("success", "failed", "cancelled")
UNAUTHORIZED: Final = ("replayed", "returned")


class Metrics:
    """The counters and histograms, bound to one registry. They outlive a reload."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # otherwise each series would be doubled
        self.registry = CollectorRegistry()
        self.account_counts: Counts = {}  # of all accounts in the store; set before a scrape
        self._count_tokens()
        self.ready = self._gauge(
            "ready", "Whether each required account can serve requests (as /readyz): 1 or 0."
        )
        self._reload_successful = self._gauge(
            "config_last_reload_successful", "Whether the last reload of the configuration succeeded: 1 or 0."
        )
        self._reload_successful.set(1)  # at the start it is loaded
        self._reloaded_at = self._gauge(
            "config_last_reload_success_timestamp_seconds",
            "Unix time at which the configuration was last loaded successfully.",
        )
        self.store_writable = self._gauge(
            "store_writable", "Whether the last write to the token store succeeded: 1 or 0."
        )
        self.store_writable.set(1)  # it could be opened
        self.tokens_unsaved = self._gauge(
            "tokens_unsaved", "Accounts whose new token can't be saved yet, and is not used before it is."
        )
        self._count_requests()
        build = self._gauge(
            "build_info",
            "Versions of token-proxy and Python, and whether its request path is compiled. Always 1.",
            *("version", "python", "compiled"),
        )
        is_compiled = "true" if compiled.look().wholly else "false"
        build.labels(version("token-proxy"), platform.python_version(), is_compiled).set(1)
        ProcessMetrics(PREFIX, self.registry)
        ProcessCollector(registry=self.registry)

    def _count_tokens(self) -> None:
        self.token_refreshes = self._counter(
            "token_refreshes",
            "Requests for a new token to the authorization server, by outcome.",
            "credential",
            "outcome",
        )
        self.token_refresh_errors = self._counter(
            "token_refresh_errors",
            "Failed requests for a new token, by error code (OAuth's, or what failed).",
            "credential",
            "error",
        )
        self.token_refresh_duration = self._histogram(
            "token_refresh_duration_seconds",
            "Duration of requests for a new token to the authorization server.",
            _TOKEN,
            "credential",
        )
        self.token_wait = self._histogram(
            "token_wait_seconds",
            "Time that requests waited because no valid token was at hand.",
            TOKEN_WAIT,
            "credential",
        )
        self.logins = self._counter(
            "logins", "Logins that have ended at this process, by outcome.", "credential", "outcome"
        )

    def _count_requests(self) -> None:
        self.requests = RequestMetrics(PREFIX, self.registry)
        self.caller_requests = CallerRequests(PREFIX, self.registry)
        self.requests_in_flight = self._gauge("requests_in_flight", "Requests being served now.", "route")
        self.upstream_unauthorized = self._counter(
            "upstream_unauthorized",
            "401 responses of the upstream, by the proxy's action: replayed with a new token, or returned.",
            "route",
            "action",
        )
        self.last_unauthorized = self._gauge(
            "last_unauthorized_timestamp_seconds",
            "Unix time of the last 401 response of the upstream.",
            "route",
        )
        self.upstream_connections = self._gauge(
            "upstream_connections", "Open connections to the upstream, by state.", "route", "state"
        )
        self.upstream_errors = self._counter(
            "upstream_errors",
            "Requests that failed at the upstream, by the ending that the caller was told.",
            "route",
            "error",
        )
        self.refused = self._counter(
            "refused", "Requests to which the proxy itself responded with an error, by ending.", "reason"
        )

    def declare(
        self,
        credentials: Iterable[str],
        routes: Iterable[str],
        *,
        upstream_errors: Iterable[str] = (),
        endings: Iterable[str] = (),
    ) -> None:
        """Let the counters of these names exist, at 0 if they are new. For the start, and for each reload.

        `upstream_errors` and `endings`: the possible values of the labels `error` and `reason`.
        """
        for credential in credentials:
            for outcome in OUTCOMES:
                self.token_refreshes.labels(credential, outcome)
            for error in ERRORS:
                self.token_refresh_errors.labels(credential, error)
            for outcome in LOGIN_OUTCOMES:
                self.logins.labels(credential, outcome)
            self.token_refresh_duration.labels(credential)
            self.token_wait.labels(credential)
        errors = tuple(upstream_errors)
        for route in routes:
            for action in UNAUTHORIZED:
                self.upstream_unauthorized.labels(route, action)
            for error in errors:
                self.upstream_errors.labels(route, error)
        for ending in endings:
            self.refused.labels(ending)

    def reload_succeeded(self, at: float) -> None:
        """The configuration has been loaded; `at` in Unix seconds."""
        self._reload_successful.set(1)
        self._reloaded_at.set(at)

    def reload_failed(self) -> None:
        self._reload_successful.set(0)

    def token_requested(self, credential: str, outcome: str, error: str, seconds: float) -> None:
        """Count a request for a new token. `error`: a code of the fixed list, "" after a success."""
        self.token_refreshes.labels(credential, outcome).inc()
        if error:
            self.token_refresh_errors.labels(credential, error).inc()
        self.token_refresh_duration.labels(credential).observe(seconds)

    def show_tokens(
        self,
        read: Callable[[], Iterable[TokenHealth]],
        states: Iterable[str],
        limit: Callable[[], int],
        skews: Callable[[], Iterable[tuple[str, float]]] = tuple,
    ) -> None:
        """Export the health of the accounts that `read` returns, by name.

        A credential with more than `limit()` accounts (by `account_counts`) is shown by states only.
        `skews`: for each credential, how far (seconds) its server's clock is ahead of ours, where known.
        """
        self.registry.register(
            TokenCollector(PREFIX, read, lambda: self.account_counts, tuple(states), limit, skews)
        )

    def show_secrets(self, ends: Callable[[], Iterable[tuple[str, float]]]) -> None:
        """Export when client secrets expire. `ends`: credentials, and Unix seconds."""
        self.registry.register(SecretCollector(PREFIX, ends))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(PREFIX + name, text, labels, buckets=buckets, registry=self.registry)
