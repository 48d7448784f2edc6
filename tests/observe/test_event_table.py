"""The table of events is what the source logs: each event, with its levels and its fields."""

import re

import pytest

from proxy.config.model import Log
from proxy.observe.event_table import EVENTS, GROUPS
from proxy.observe.request_log import RequestLog
from tests.observe.emitted import EMITTED, OF_THE_AUDIT_LOG, PASSED_ON

LEVELS = ("debug", "info", "warning", "error", "critical")
WRITTEN_BY_HAND = {"notice", "request"}  # test_logs.py and test_request_log.py have these


def test_the_table_has_the_events_of_the_source():
    assert EVENTS.keys() == EMITTED.keys() - OF_THE_AUDIT_LOG | {"notice"}
    assert sum(map(len, GROUPS.values())) == len(EVENTS)


@pytest.mark.parametrize("name", sorted(EVENTS.keys() - WRITTEN_BY_HAND))
def test_an_event_has_the_levels_and_fields_of_the_source(name):
    event, seen = EVENTS[name], EMITTED[name]
    assert set(event.levels) >= seen.levels - {"any"}
    assert set(event.levels) == seen.levels or seen.levels <= {"any"}
    assert set(event.fields) == seen.fields | PASSED_ON.get(name, set())


def test_a_request_has_the_fields_of_its_line():
    said = []
    log = RequestLog(Log(format="json"), said.append)
    names = "crm", "crm", "default", "build", "GET"
    log.add(log.lines.line(*names, 502, 1.0, 0.5, 1, 2, "upstream-timeout", True, "1" * 32))
    log.flush()
    written = set(re.findall(r'"(\w+)":', said[0]))
    assert set(EVENTS["request"].fields) == written - {"ts", "level", "event", "message"}


@pytest.mark.parametrize("name", EVENTS)
def test_a_row_is_well_formed(name):
    event = EVENTS[name]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
    assert event.levels
    assert set(event.levels) <= set(LEVELS)
    assert len(event.fields) == len(set(event.fields))
    assert event.meaning.isascii()
    assert not event.meaning.endswith(".")
    assert "|" not in event.meaning  # it stands in tables
    assert event.meaning.count("`") % 2 == 0
