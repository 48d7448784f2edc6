"""Every metric by its name and labels in the contract, and nothing that is not built."""

import re
from typing import get_args

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy import tasks
from proxy.config.limits import Limits
from proxy.errors import Outcome
from proxy.observe.metrics import ERRORS, LOGIN_OUTCOMES, OUTCOMES, TOKEN_WAIT, Metrics
from proxy.observe.token_metrics import TokenHealth
from proxy.relay import problems
from proxy.tokens.diagnosis.failures import row_of
from proxy.tokens.lifetime import STATES

CONTRACT = {  # without the prefix; what this version builds
    "token_expiry_timestamp_seconds": {"credential", "account"},
    "token_issued_timestamp_seconds": {"credential", "account"},
    "token_refresh_due_timestamp_seconds": {"credential", "account"},
    "token_last_refresh_success_timestamp_seconds": {"credential", "account"},
    "refresh_token_expiry_timestamp_seconds": {"credential", "account"},
    "token_state": {"credential", "account", "state"},
    "token_refreshes_total": {"credential", "outcome"},
    "token_refresh_errors_total": {"credential", "error"},
    "token_next_try_timestamp_seconds": {"credential", "account"},
    "accounts": {"credential", "state"},
    "clock_skew_seconds": {"credential"},
    "client_secret_expiry_timestamp_seconds": {"credential"},
    "logins_total": {"credential", "outcome"},
    "ready": set(),
    "config_last_reload_successful": set(),
    "config_last_reload_success_timestamp_seconds": set(),
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
    "last_unauthorized_timestamp_seconds": {"route"},
    "upstream_connections": {"route", "state"},
    "upstream_errors_total": {"route", "error"},
    "refused_total": {"reason"},
    "build_info": {"version", "python", "compiled"},
    "internal_errors_total": {"task"},
    "log_lines_dropped_total": set(),
}
PROCESS = {  # the usual names, of which generic dashboards and alerts know
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
}
PREFIX = "token_proxy_"


def health(account="default", state="valid", **more):
    times = dict.fromkeys(
        ("issued_at", "expires_at", "refresh_due_at", "refresh_expires_at", "last_success_at", "next_try_at"),
        None,
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
            assert sample.name.startswith(PREFIX) or sample.name in PROCESS
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


TIMES = {
    "issued_at": 1.0,
    "expires_at": 2.0,
    "refresh_due_at": 3.0,
    "refresh_expires_at": 4.0,
    "last_success_at": 5.0,
    "next_try_at": 6.0,
}


def test_the_metrics_are_those_of_the_contract(metrics):
    declare(metrics)
    metrics.requests.of("crm").count(b"GET", 200, 0.001)
    metrics.requests_in_flight.labels("crm").set(1)
    metrics.last_unauthorized.labels("crm").set_to_current_time()
    metrics.upstream_connections.labels("crm", "idle").set(1)
    metrics.account_counts = {"crm": {"valid": 1}}
    metrics.show_tokens(lambda: [health(**TIMES)], STATES, lambda: 100, lambda: [("crm", -7.0)])
    metrics.show_secrets(lambda: [("crm", 7.0)])
    found = series(metrics)
    assert found.keys() == CONTRACT.keys() | PROCESS
    for name, labels in CONTRACT.items():
        assert all(given.keys() - {"le"} == labels for given, _ in found[name]), name


def declare(metrics, credentials=("crm",), routes=("api",)):
    metrics.declare(credentials, routes, upstream_errors=problems.UPSTREAM_ENDINGS, endings=problems.ENDINGS)


def test_at_the_start_the_store_is_writable_and_no_labels_are_made_up(metrics):
    metrics.show_tokens(list, STATES, lambda: 100)
    found = {name: values for name, values in series(metrics).items() if name not in PROCESS}
    assert found.pop("build_info")
    assert ({"task": "other"}, tasks.internal_errors["other"]) in found.pop("internal_errors_total")
    assert found.pop("log_lines_dropped_total") == [({}, 0.0)]
    assert found.keys() == {
        *("store_writable", "tokens_unsaved", "ready"),
        *("config_last_reload_successful", "config_last_reload_success_timestamp_seconds"),
    }
    assert (found["store_writable"], found["tokens_unsaved"]) == ([({}, 1.0)], [({}, 0.0)])


COUNTERS = {name for name in CONTRACT if name.endswith("_total")} - {
    "requests_total",  # a method and a status are known with the first request only
    "internal_errors_total",
    "log_lines_dropped_total",
}


def test_counters_exist_from_the_start_at_0(metrics):
    """Otherwise `increase()` misses the first event, often the only one."""
    declare(metrics, ("crm", "hr"))
    found = series(metrics)
    assert found.keys() >= COUNTERS
    assert all(value == 0 for name in COUNTERS for _, value in found[name])
    outcomes = {(labels["credential"], labels["outcome"]) for labels, _ in found["token_refreshes_total"]}
    assert outcomes == {(name, outcome) for name in ("crm", "hr") for outcome in OUTCOMES}
    reasons = {labels["reason"] for labels, _ in found["refused_total"]}
    assert {"no-route", "login-required", "upstream-tls"} <= reasons


def test_a_reload_adds_counters_and_takes_nothing_from_those_that_are_there(metrics):
    declare(metrics)
    metrics.token_requested("crm", "transient", "timeout", 0.1)
    metrics.logins.labels("crm", "failed").inc()
    declare(metrics, ("crm", "new"), ("api", "more"))
    found = series(metrics)
    assert ({"credential": "crm", "outcome": "transient"}, 1.0) in found["token_refreshes_total"]
    assert ({"credential": "crm", "error": "timeout"}, 1.0) in found["token_refresh_errors_total"]
    assert ({"credential": "crm", "outcome": "failed"}, 1.0) in found["logins_total"]
    assert ({"credential": "new", "outcome": "transient"}, 0.0) in found["token_refreshes_total"]
    assert ({"route": "more", "action": "returned"}, 0.0) in found["upstream_unauthorized_total"]


def test_the_outcomes_are_those_of_refreshes():
    assert set(OUTCOMES) == {"success", *get_args(Outcome)}


def test_the_errors_that_exist_from_the_start_are_codes_of_failures():
    assert all(row_of(error) == error for error in ERRORS)


def test_a_success_is_no_error(metrics):
    metrics.token_requested("crm", "success", "", 0.1)
    assert "token_refresh_errors_total" not in series(metrics)


RIDDLES = re.compile(r"what runs|whom|\bwho\b|under way|answers? ", re.IGNORECASE)


def test_each_metric_is_explained_in_a_sentence(metrics):
    declare(metrics)
    metrics.account_counts = {"crm": {"valid": 1}}
    metrics.show_tokens(lambda: [health(**TIMES)], STATES, lambda: 100, lambda: [("crm", -7.0)])
    for family in metrics.registry.collect():
        text = family.documentation
        assert family.name.startswith("process_") or text.endswith("."), family.name
        assert len(text) > 20, family.name
        assert not RIDDLES.search(text), text


def test_with_thousands_of_credentials_the_start_is_not_held_up(metrics):
    """Not a limit of time: so many must work, and have as many series as were asked for."""
    names = [f"credential-{number}" for number in range(2000)]
    declare(metrics, names, ())
    assert len(series(metrics)["logins_total"]) == len(names) * len(LOGIN_OUTCOMES)


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
    assert accounts(metrics) == {("crm", "valid"): 2}

    metrics.account_counts = {"crm": {"valid": 90_000, "expired": 5}}
    assert accounts(metrics) == {("crm", "valid"): 90_000, ("crm", "expired"): 5}
    found = series(metrics)
    assert len(found["accounts"]) == len(STATES)
    assert not found.keys() & {"token_state", "token_expiry_timestamp_seconds", "login_required"}


def test_each_credential_has_a_limit_of_its_own(metrics):
    known = [health("anna"), health("default", credential="hr")]
    metrics.show_tokens(lambda: known, STATES, lambda: 2)
    metrics.account_counts = {"crm": {"valid": 3}, "hr": {"valid": 1}}
    assert states(metrics) == {("default", "valid"): 1}
    assert accounts(metrics) == {("crm", "valid"): 3, ("hr", "valid"): 1}


def accounts(metrics):
    return {
        (labels["credential"], labels["state"]): value
        for labels, value in series(metrics)["accounts"]
        if value
    }


def test_a_request_that_waits_for_a_token_to_the_limit_is_within_the_buckets():
    assert Limits().token_wait < TOKEN_WAIT[-1]
