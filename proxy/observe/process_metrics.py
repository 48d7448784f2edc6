"""Counters of the whole process, independent of its configuration: they survive a reload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy import tasks
from proxy.observe import logs


class ProcessMetrics(Collector):
    """`internal_errors_total{task}` and `log_lines_dropped_total`."""

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self._prefix = prefix
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing to check for clashes before the first scrape

    def collect(self) -> Iterator[Metric]:
        errors = CounterMetricFamily(
            self._prefix + "internal_errors",
            "Unexpected exceptions in this program, by task. Each is logged: please report it.",
            labels=("task",),
        )
        for task, count in sorted(tasks.internal_errors.items()):
            errors.add_metric((task,), count)
        yield errors
        yield CounterMetricFamily(
            self._prefix + "log_lines_dropped",
            "Log lines that were lost because stderr did not accept them (reader too slow, disk full).",
            value=logs.lines_dropped(),
        )
