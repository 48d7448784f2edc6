"""docs/metrics.md: what it says beside the tables that are taken from the code (test_generated.py)."""

from __future__ import annotations

import re

from proxy.config.model import Log
from proxy.observe.audit import EVENTS, AuditLog
from proxy.observe.request_log import RequestLog
from tests.docs.pages import DOCS, rows, section, words
from tests.observe.emitted import OF_THE_AUDIT_LOG

TEXT = (DOCS / "metrics.md").read_text()


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
