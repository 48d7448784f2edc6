"""PromQL in deploy/: the metrics that an expression names, and what we export."""

from __future__ import annotations

import re

from tests.observe.test_metrics import CONTRACT, PROCESS

METRIC = re.compile(r"\b((?:token_proxy|process)_[a-z0-9_]+)")
OF_HISTOGRAMS = re.compile(r"_(?:bucket|sum|count)$")


def metrics_of(expression: str) -> set[str]:
    return {OF_HISTOGRAMS.sub("", name) for name in METRIC.findall(expression)}


def exported() -> set[str]:
    ours = {*CONTRACT, "caller_requests_total", "last_unauthorized_timestamp_seconds", "sink_writes_total"}
    return {f"token_proxy_{name}" for name in ours} | PROCESS
