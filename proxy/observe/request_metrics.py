"""The metrics of requests: `requests_total`, `request_duration_seconds` and `caller_requests_total`.

Plain numbers, as the client library's counters take a lock each time: three of them would cost a tenth of a
typical request. They are changed and scraped on the event loop only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
)  # seconds
_BOUNDS: Final = [float(bound) for bound in BUCKETS]
METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"})


class RouteRequests:
    """What has been counted for one route."""

    __slots__ = ("durations", "responses", "seconds")

    def __init__(self) -> None:
        self.responses: dict[tuple[bytes, int], int] = {}
        self.durations = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def count(self, method: bytes, status: int, seconds: float) -> None:
        response = (method, status)
        self.responses[response] = self.responses.get(response, 0) + 1
        bucket = 0  # most requests are in one of the first: no search is faster
        while bucket < len(_BOUNDS) and _BOUNDS[bucket] < seconds:
            bucket += 1
        self.durations[bucket] += 1
        self.seconds += seconds


class RequestMetrics(Collector):
    """The tallies of all routes, as the metrics `requests_total` and `request_duration_seconds`."""

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self._prefix = prefix
        self._routes: dict[str, RouteRequests] = {}
        registry.register(self)

    def of(self, route: str) -> RouteRequests:
        return self._routes.setdefault(route, RouteRequests())

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing to check for clashes before the first scrape

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            self._prefix + "requests",
            "Requests that matched a route, by method and status code of the response.",
            labels=("route", "method", "code"),
        )
        durations = HistogramMetricFamily(
            self._prefix + "request_duration_seconds",
            "Time from the end of the request's header to the end of the response.",
            labels=("route",),
        )
        for route, tally in self._routes.items():
            for (method, code), count in _by_label(tally.responses):
                requests.add_metric((route, method, code), count)
            counts = accumulate(tally.durations)
            bounds = (*(str(float(bound)) for bound in BUCKETS), "+Inf")
            durations.add_metric((route,), list(zip(bounds, counts, strict=True)), tally.seconds)
        yield requests
        yield durations


class CallerTally:
    """What has been counted for one caller: by route and status."""

    __slots__ = ("responses",)

    def __init__(self) -> None:
        self.responses: dict[tuple[str, int], int] = {}

    def count(self, route: str, status: int) -> None:
        response = (route, status)
        self.responses[response] = self.responses.get(response, 0) + 1


class CallerRequests(Collector):
    """`caller_requests_total`, for configurations with callers only."""

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self._name = prefix + "caller_requests"
        self._registry = registry
        self._callers: dict[str, CallerTally] = {}
        self._is_shown = False

    def show(self) -> None:
        """Export the metric from now on."""
        if not self._is_shown:
            self._registry.register(self)
            self._is_shown = True

    def of(self, caller: str) -> CallerTally:
        return self._callers.setdefault(caller, CallerTally())

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing to check for clashes before the first scrape

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            self._name,
            "Requests of identified callers that matched a route, by status code of the response.",
            labels=("caller", "route", "code"),
        )
        for caller, tally in self._callers.items():
            for (route, status), count in tally.responses.items():
                requests.add_metric((caller, route, str(status)), count)
        yield requests


def _by_label(responses: dict[tuple[bytes, int], int]) -> Iterable[tuple[tuple[str, str], int]]:
    """Rare methods are counted together: callers must not create series."""
    counts: dict[tuple[str, str], int] = {}
    for (method, status), count in responses.items():
        label = (method.decode("ascii") if method in METHODS else "other", str(status))
        counts[label] = counts.get(label, 0) + count
    return counts.items()
