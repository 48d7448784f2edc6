"""Events: a sentence for people, fields for machines, and nothing at all below the level."""

import io
import json
import logging
import sys

import pytest

from proxy.config.model import Log
from proxy.observe import logs
from proxy.observe.events import INFO, WARNING, decision, event, unexpected

log = logging.getLogger("proxy.tokens")


@pytest.fixture
def written(monkeypatch):
    """The lines of a server's log at a level, as objects."""

    def at(level="info"):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        logs.set_up(Log(level=level))
        return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]

    return at


def test_an_event_has_its_name_its_level_its_sentence_and_its_fields(written):
    lines = written()
    event(log, WARNING, "refresh_failed", "refresh of crm/x failed", credential="crm", next_try_s=1.5)
    (line,) = lines()
    assert line.pop("ts") > 1e9
    assert line == {
        "level": "warning",
        "event": "refresh_failed",
        "message": "refresh of crm/x failed",
        "credential": "crm",
        "next_try_s": 1.5,
    }


def test_fields_without_a_value_are_left_out(written):
    lines = written()
    event(log, INFO, "login", "logged in", login_url="", error=None, failures=0, final=False)
    (line,) = lines()
    assert {key: line[key] for key in line.keys() - {"ts", "level", "event", "message"}} == {
        "failures": 0,
        "final": False,
    }


def test_a_sentence_may_contain_anything(written):
    lines = written()
    event(log, INFO, "odd", "100 % sure of %s")
    assert lines()[0]["message"] == "100 % sure of %s"


class Costly:
    def __str__(self):
        raise AssertionError("it was formatted")


def test_below_the_level_nothing_is_formatted(written):
    lines = written("info")
    decision(log, "%s", Costly())
    assert lines() == []


def test_a_decision_is_logged_at_level_debug(written):
    lines = written("debug")
    decision(log, "%s: the lease is ours", "crm/x", credential="crm", account="x")
    (line,) = lines()
    assert line.pop("ts") > 1e9
    assert line == {
        "level": "debug",
        "event": "decision",
        "message": "crm/x: the lease is ours",
        "credential": "crm",
        "account": "x",
    }


def test_a_failure_is_logged_with_its_place(written):
    lines = written()
    try:
        raise OSError(5, "a disk")
    except OSError as error:
        unexpected(log, "internal_error", "it failed", error, task="refresh")
    (line,) = lines()
    assert "test_events.py" in line["error"]
    assert line["task"] == "refresh"


@pytest.mark.parametrize("name", ["name", "msg", "args", "module", "sentence", "log"])
def test_a_field_may_have_the_name_of_an_attribute_of_a_record(written, name):
    lines = written()
    event(log, INFO, "odd", "a sentence", **{name: "value"})
    assert lines()[0]["event"] == "odd"
