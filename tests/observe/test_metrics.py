"""Every metric by its name and labels in the contract, and nothing that is not built."""

import re

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy import tasks
from proxy.config.limits import Limits
from proxy.observe.metrics import TOKEN_WAIT, Metrics, TokenHealth
from proxy.tokens.lifetime import STATES

CONTRACT = {  # without the prefix; what this version builds
    "token_expiry_timestamp_seconds": {"credential", "account"},
    "token_issued_timestamp_seconds": {"credential", "account"},
    "token_refresh_due_timestamp_seconds": {"credential", "account"},
    "token_last_refresh_success_timestamp_seconds": {"credential", "account"},
    "refresh_token_expiry_timestamp_seconds": {"credential", "account"},
    "token_state": {"credential", "account", "state"},
    "token_refreshes_total": {"credential", "outcome", "error"},
    "token_refresh_duration_seconds": {"credential"},
    "token_wait_seconds": {"credential"},
    "token_refresh_failures_consecutive": {"credential", "account"},
    "login_required": {"credential", "account"},
    "store_writable": set(),
    "tokens_unsaved": set(),
    "requests_total": {"route", "method", "code"},
    "request_duration_seconds": {"route"},
    "requests_in_flight": {"route"},
    "upstream_unauthorized_total": {"route", "action"},
    "upstream_connections": {"route", "state"},
    "upstream_errors_total": {"route", "error"},
    "refused_total": {"reason"},
    "build_info": {"version", "python"},
    "internal_errors_total": {"task"},
    "log_lines_dropped_total": set(),
}
PROCESS = {
    "cpu_seconds_total",
    "open_fds",
    "max_fds",
    "resident_memory_bytes",
    "virtual_memory_bytes",
    "start_time_seconds",
}
PREFIX = "token_proxy_"


def health(account="default", state="valid", **more):
    times = dict.fromkeys(
        ("issued_at", "expires_at", "refresh_due_at", "refresh_expires_at", "last_success_at"), None
    )
    return TokenHealth(
        **{
            "credential": "crm",
            "account": account,
            "state": state,
            "failures": 0,
            "login_required": False,
            **times,
            **more,
        }
    )


def series(metrics):
    """Sample name without the prefix -> its label sets."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            assert sample.name.startswith(PREFIX)
            name = re.sub(r"_(bucket|sum|count)$", "", sample.name.removeprefix(PREFIX))
            found.setdefault(name, []).append((sample.labels, sample.value))
    return found


def states(metrics):
    return {
        (labels["account"], labels["state"]): value
        for labels, value in series(metrics)["token_state"]
        if value
    }


@pytest.fixture
def metrics():
    return Metrics()


def test_the_metrics_are_those_of_the_contract(metrics):
    metrics.token_refreshes.labels("crm", "success", "").inc()
    metrics.token_refresh_duration.labels("crm").observe(0.1)
    metrics.token_wait.labels("crm").observe(0.1)
    metrics.requests.of("crm").count(b"GET", 200, 0.001)
    metrics.requests_in_flight.labels("crm").set(1)
    metrics.upstream_unauthorized.labels("crm", "replayed").inc()
    metrics.upstream_connections.labels("crm", "idle").set(1)
    metrics.upstream_errors.labels("crm", "upstream-timeout").inc()
    metrics.refused.labels("no-route").inc()
    times = {
        "issued_at": 1.0,
        "expires_at": 2.0,
        "refresh_due_at": 3.0,
        "refresh_expires_at": 4.0,
        "last_success_at": 5.0,
    }
    metrics.show_tokens(lambda: [health(**times)], STATES, lambda: 100)
    found = series(metrics)
    assert {name for name in found if not name.startswith("process_")} == CONTRACT.keys()
    for name, labels in CONTRACT.items():
        assert all(given.keys() - {"le"} == labels for given, _ in found[name]), name
    assert {name.removeprefix("process_") for name in found if name.startswith("process_")} <= PROCESS


def test_at_the_start_the_store_is_writable_and_no_labels_are_made_up(metrics):
    metrics.show_tokens(list, STATES, lambda: 100)
    found = {name: values for name, values in series(metrics).items() if not name.startswith("process_")}
    assert found.pop("build_info")
    assert ({"task": "other"}, tasks.internal_errors["other"]) in found.pop("internal_errors_total")
    assert found.pop("log_lines_dropped_total") == [({}, 0.0)]
    assert found == {"store_writable": [({}, 1.0)], "tokens_unsaved": [({}, 0.0)]}


def test_a_time_that_is_not_known_is_absent(metrics):
    metrics.show_tokens(lambda: [health(expires_at=2.0), health("anna")], STATES, lambda: 100)
    found = series(metrics)
    assert found["token_expiry_timestamp_seconds"] == [({"credential": "crm", "account": "default"}, 2.0)]
    assert "token_issued_timestamp_seconds" not in found


def test_an_account_is_in_one_state_of_all(metrics):
    metrics.show_tokens(lambda: [health(state="stale")], STATES, lambda: 100)
    assert len(series(metrics)["token_state"]) == len(STATES)
    assert states(metrics) == {("default", "stale"): 1}


def test_beyond_the_limit_accounts_have_no_names_but_numbers(metrics):
    known = [health(f"user{number}", expires_at=2.0) for number in range(2)]
    metrics.show_tokens(lambda: known, STATES, lambda: 2)
    metrics.account_counts = {"crm": {"valid": 2}}
    assert states(metrics) == {("user0", "valid"): 1, ("user1", "valid"): 1}

    metrics.account_counts = {"crm": {"valid": 90_000, "expired": 5}}
    assert states(metrics) == {("", "valid"): 90_000, ("", "expired"): 5}
    assert len(series(metrics)["token_state"]) == len(STATES)
    assert "token_expiry_timestamp_seconds" not in series(metrics)


def test_each_credential_has_a_limit_of_its_own(metrics):
    known = [health("anna"), health("default", credential="hr")]
    metrics.show_tokens(lambda: known, STATES, lambda: 2)
    metrics.account_counts = {"crm": {"valid": 3}, "hr": {"valid": 1}}
    assert states(metrics) == {("", "valid"): 3, ("default", "valid"): 1}


def test_a_request_that_waits_for_a_token_to_the_limit_is_within_the_buckets():
    assert Limits().token_wait < TOKEN_WAIT[-1]
