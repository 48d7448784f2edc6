"""Requests as Prometheus sees them."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from proxy.observe.request_metrics import BUCKETS, RequestMetrics


@pytest.fixture
def registry():
    return CollectorRegistry()


def test_requests_are_counted_by_route_method_and_code(registry):
    tally = RequestMetrics("p_", registry)
    for _ in range(3):
        tally.of("crm").count(b"GET", 200, 0.002)
    tally.of("crm").count(b"PROPFIND", 207, 0.1)
    tally.of("crm").count(b"REPORT", 207, 0.1)
    tally.of("erp").count(b"GET", 503, 0.1)
    value = registry.get_sample_value
    assert value("p_requests_total", {"route": "crm", "method": "GET", "code": "200"}) == 3
    assert value("p_requests_total", {"route": "crm", "method": "other", "code": "207"}) == 2
    assert value("p_requests_total", {"route": "erp", "method": "GET", "code": "503"}) == 1


def test_durations_are_a_cumulative_histogram(registry):
    tally = RequestMetrics("p_", registry)
    for seconds in (0.0001, 0.001, 0.002, 0.3, 1000):
        tally.of("crm").count(b"GET", 200, seconds)
    value = registry.get_sample_value
    name = "p_request_duration_seconds"
    assert value(f"{name}_bucket", {"route": "crm", "le": "0.001"}) == 2
    assert value(f"{name}_bucket", {"route": "crm", "le": "0.5"}) == 4
    assert value(f"{name}_bucket", {"route": "crm", "le": "+Inf"}) == 5
    assert value(f"{name}_count", {"route": "crm"}) == 5
    assert value(f"{name}_sum", {"route": "crm"}) == pytest.approx(1000.3031)
    assert len(BUCKETS) + 1 == generate_latest(registry).count(b"_bucket{")


def test_an_unused_route_has_a_histogram_and_no_counter(registry):
    RequestMetrics("p_", registry).of("crm")
    text = generate_latest(registry)
    assert b"p_requests_total{" not in text
    assert b'p_request_duration_seconds_count{route="crm"} 0.0' in text
