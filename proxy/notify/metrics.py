"""`notifications_total`: only while notifications are configured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

SENT: Final = "sent"
FAILED: Final = "failed"


class NotificationMetrics(Collector):
    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self.is_configured = False
        self.outcomes = Counter({SENT: 0, FAILED: 0})
        self._name = f"{prefix}notifications"
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing to check for clashes before the first scrape

    def collect(self) -> Iterator[Metric]:
        if not self.is_configured:
            return
        text = "Tries to deliver a notification ([notify]), by outcome."
        family = CounterMetricFamily(self._name, text, labels=("outcome",))
        for outcome, count in self.outcomes.items():
            family.add_metric((outcome,), count)
        yield family
