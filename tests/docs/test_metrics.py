"""docs/metrics.md lists exactly what the program exports and logs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from prometheus_client import Metric

from proxy.config.model import Log
from proxy.observe.audit import EVENTS, AuditLog, AuditMetrics
from proxy.observe.metrics import PREFIX, Metrics
from proxy.observe.request_log import RequestLog
from tests.docs.pages import DOCS, rows, section, words
from tests.observe.emitted import EMITTED, OF_THE_AUDIT_LOG, PASSED_ON
from tests.observe.test_metrics import STATES, TIMES, declare, health

TEXT = (DOCS / "metrics.md").read_text()


# -- metrics


@pytest.fixture
def exported(tmp_path) -> Iterator[dict[str, tuple[str, set[str], str]]]:
    """Name -> type, labels and help of every metric, each with a sample."""
    metrics, audit = Metrics(), AuditLog()
    declare(metrics)
    metrics.requests.of("crm").count(b"GET", 200, 0.001)
    metrics.requests_in_flight.labels("crm").set(1)
    metrics.last_unauthorized.labels("crm").set(1)
    metrics.upstream_connections.labels("crm", "idle").set(1)
    metrics.upstream_queued.labels("crm").set(0)
    metrics.account_counts = {"crm": {"valid": 1}}
    metrics.show_tokens(lambda: [health(**TIMES)], STATES, lambda: 100, lambda: [("crm", -7.0)])
    metrics.show_secrets(lambda: [("crm", 7.0)])
    metrics.caller_requests.of("build").count("crm", 200)
    metrics.caller_requests.show()
    audit.use(Log(audit=tmp_path / "audit.log"))
    AuditMetrics(PREFIX, metrics.registry, audit)
    yield {
        name_of(each): (each.type, labels_of(each), each.documentation) for each in metrics.registry.collect()
    }
    audit.close(30)


def name_of(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def labels_of(metric: Metric) -> set[str]:
    return {label for sample in metric.samples for label in sample.labels} - {"le"}


def test_the_list_of_metrics_is_that_of_the_registry(exported):
    listed = {
        name.strip("`"): (kind, words(labels), meaning)
        for name, kind, labels, meaning, _ in rows(section(TEXT, "## Metrics"))
    }
    assert listed == exported


# -- events


LISTED = {name.strip("`"): rest for name, *rest in rows(section(TEXT, "## Log events"))}


def test_the_list_of_events_is_that_of_the_source():
    assert LISTED.keys() == EMITTED.keys() - OF_THE_AUDIT_LOG | {"notice"}


@pytest.mark.parametrize("name", sorted(LISTED.keys() - {"notice", "request"}))
def test_an_event_has_the_levels_and_fields_that_are_listed(name):
    levels, listed, _ = LISTED[name]
    seen = EMITTED[name]
    given = set(levels.split(", "))
    assert given >= seen.levels - {"any"}
    assert given == seen.levels or seen.levels <= {"any"}
    assert words(listed) == seen.fields | PASSED_ON.get(name, set())


def test_the_fields_of_a_request_are_listed():
    said: list[str] = []
    log = RequestLog(Log(format="json"), said.append)
    names = "crm", "crm", "default", "build", "GET"
    log.add(log.lines.line(*names, 502, 1.0, 0.5, 1, 2, "upstream-timeout", True, "1" * 32))
    log.flush()
    written = set(re.findall(r'"(\w+)":', said[0])) - {"ts", "level", "event"}
    listed = words(section(TEXT, "### Fields of a request's line"))
    assert listed - {"traceparent", '[log] level = "warning"'} == written


def test_the_audit_log_is_described(tmp_path):
    listed = {
        name: words(cells[1]) for cells in rows(section(TEXT, "## The audit log")) for name in words(cells[0])
    }
    assert listed.keys() == {"request", *EVENTS, *OF_THE_AUDIT_LOG}
    audit = AuditLog()
    audit.use(Log(audit=tmp_path / "audit.log"))
    audit.unread("127.0.0.1", "bad-request", 400, 0)
    audit.close(30)
    written = set(re.findall(r'"(\w+)":', (tmp_path / "audit.log").read_text()))
    assert listed["request"] == written - {"ts", "event"}
