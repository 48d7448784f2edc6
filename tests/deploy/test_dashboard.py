"""deploy/grafana: the rules of Grafana's dashboard-linter, and metrics that exist.

tests/e2e/test_monitoring.py asks a real Prometheus for each panel's query.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.expressions import exported, metrics_of

GRAFANA = Path(__file__).parents[2] / "deploy/grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "token-proxy.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
SELECTOR = re.compile(r"(?<![a-z_])((?:token_proxy|process)_[a-z0-9_]+)(\{[^}]*\})?(\[[^]]+\])?")
COUNTER = re.compile(r"_(?:total|bucket|count|sum)$")
# Grafana's names of units, of those that are used here
UNITS = {"short", "s", "bytes", "reqps", "percentunit", "dateTimeFromNow", "bool_yes_no"}

each_panel = pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])


def expressions(panel: dict[str, Any]) -> Iterator[str]:
    return (target["expr"] for target in panel["targets"])


def test_the_data_source_is_a_variable():
    source = VARIABLES["datasource"]
    assert (source["type"], source["query"], source["label"]) == ("datasource", "prometheus", "Data source")


@pytest.mark.parametrize("name", ["job", "instance", "credential", "route"])
def test_a_variable_offers_all_and_several(name):
    variable = VARIABLES[name]
    assert (variable["type"], variable["multi"], variable["includeAll"]) == ("query", True, True)
    assert variable["allValue"] == (".+" if name in {"job", "instance"} else ".*")
    assert variable["refresh"] == 2  # at each change of the time range
    assert variable["datasource"]["uid"] == "${datasource}"
    assert metrics_of(variable["definition"]) <= exported()
    assert variable["label"] == name.capitalize()


def test_the_dashboard_is_provisioned_not_edited():
    assert DASHBOARD["editable"] is False
    providers = [yaml.safe_load(path.read_text()) for path in (GRAFANA / "provisioning").rglob("*.y*ml")]
    assert any("datasources" in each for each in providers)
    assert any("providers" in each for each in providers)


def test_panels_do_not_overlap_and_have_numbers_of_their_own():
    places = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in places, panel["title"]
                places.add((x, y))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@each_panel
def test_a_panel_says_what_it_shows_and_in_which_unit(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    for override in panel["fieldConfig"]["overrides"]:
        assert all(each["value"] in UNITS for each in override["properties"] if each["id"] == "unit")


@each_panel
def test_a_query_is_about_the_chosen_job_and_instance(panel):
    for expression in expressions(panel):
        for name, labels, _ in SELECTOR.findall(expression):
            assert 'job=~"$job"' in labels, name
            assert 'instance=~"$instance"' in labels, name


@each_panel
def test_a_query_names_metrics_that_are_exported(panel):
    for expression in expressions(panel):
        assert metrics_of(expression)
        assert metrics_of(expression) <= exported()


@each_panel
def test_counters_are_rates_over_the_interval_of_the_graph(panel):
    for expression in expressions(panel):
        for name, labels, range_ in SELECTOR.findall(expression):
            if COUNTER.search(name):
                assert re.search(r"(?:rate|increase)\(" + re.escape(name + labels + range_), expression), name
                assert range_ == "[$__rate_interval]"
            else:
                assert not range_, name


def test_every_metric_of_tokens_and_requests_is_shown_somewhere():
    """What is left out is named, so that a new metric is not forgotten."""
    shown = {name for panel in PANELS for expression in expressions(panel) for name in metrics_of(expression)}
    assert exported() - shown == {
        "process_virtual_memory_bytes",
        "token_proxy_last_unauthorized_timestamp_seconds",
        "token_proxy_sink_writes_total",
        "token_proxy_token_last_refresh_success_timestamp_seconds",
        "token_proxy_token_next_try_timestamp_seconds",
        "token_proxy_token_refresh_due_timestamp_seconds",
        "token_proxy_token_state",
    }
