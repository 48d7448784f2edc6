"""deploy/prometheus: alerts about metrics that exist, each tested, each with a runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.expressions import exported, metrics_of
from tests.servers.programs import find

REPOSITORY = Path(__file__).parents[2]
RULES = REPOSITORY / "deploy/prometheus/rules.yml"
TESTS = RULES.with_name("rules_test.yml")
RUNBOOKS = REPOSITORY / "docs/runbooks"
PAGE = re.compile(r"https://github\.com/token-proxy/token-proxy/blob/main/(docs/runbooks/[a-z-]+\.md)")
ALERTS = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
each_alert = pytest.mark.parametrize("name", ALERTS)


def test_there_is_an_alert_for_each_trouble():
    assert {name.removeprefix("TokenProxy") for name in ALERTS} == {
        "LoginRequired",
        "LoginsRequired",
        "CannotRefresh",
        "TokenExpiresSoon",
        "Misconfigured",
        "RefreshTokenExpiresSoon",
        "ClientSecretExpiresSoon",
        "ClockSkew",
        "SaveHeldBack",
        "StoreNotWritable",
        "UpstreamRefusesToken",
        "RouteErrors",
        "Absent",
        "ReloadFailed",
        "LogLinesDropped",
        "InternalErrors",
        "AuditLogFails",
    }


@each_alert
def test_an_alert_says_how_urgent_it_is_and_names_its_runbook(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    page = PAGE.fullmatch(alert["annotations"]["runbook_url"])
    assert page is not None
    text = (REPOSITORY / page[1]).read_text()
    assert f"`{name}`" in text


@each_alert
def test_an_alert_is_about_metrics_that_are_exported(name):
    assert metrics_of(ALERTS[name]["expr"]) <= exported()


@each_alert
def test_an_alert_is_seen_to_fire_and_to_be_quiet(name):
    cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    seen = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == name}
    assert seen == {True, False}


def test_a_runbook_begins_with_what_is_noticed_and_ends_with_the_commands():
    pages = set(RUNBOOKS.glob("*.md")) - {RUNBOOKS / "README.md"}
    assert {page.name for page in pages} == {
        Path(alert["annotations"]["runbook_url"]).name for alert in ALERTS.values()
    }
    for page in pages:
        sections = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
        assert (sections[0], sections[-1]) == ("What you notice", "Commands"), page.name
        assert "```sh" in page.read_text().rpartition("## Commands")[2], page.name


def test_the_list_of_runbooks_is_complete():
    text = (RUNBOOKS / "README.md").read_text()
    rows = re.findall(
        r"^\| (TokenProxy\w+)(?:, (TokenProxy\w+))? \| (\w+) \| \[[^]]+\]\(([^)]+)\) \|$", text, re.MULTILINE
    )
    listed = {name: (severity, page) for *names, severity, page in rows for name in names if name}
    assert listed == {
        name: (alert["labels"]["severity"], Path(alert["annotations"]["runbook_url"]).name)
        for name, alert in ALERTS.items()
    }


@pytest.mark.monitoring
@pytest.mark.parametrize("arguments", [("check", "rules", "--lint-fatal", RULES), ("test", "rules", TESTS)])
def test_promtool_finds_no_fault(arguments):
    done = subprocess.run([find("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
