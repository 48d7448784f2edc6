"""docs/metrics.md: what it says beside the tables that are taken from the code (test_generated.py)."""

from __future__ import annotations

import re

from proxy.config.model import Log
from proxy.notify.metrics import NotificationMetrics
from proxy.observe.audit import EVENTS, AuditLog, AuditMetrics
from proxy.observe.metrics import PREFIX, Metrics
from proxy.observe.request_log import RequestLog
from tests.docs.pages import DOCS, rows, section, words
from tests.observe.emitted import OF_THE_AUDIT_LOG

TEXT = (DOCS / "metrics.md").read_text()
EMITTERS = {"event", "_event", "unexpected", "decision"}
LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
IN_TEXT = re.compile(r'"level": "(\w+)", "event": "(\w+)"')  # lines that are formatted by hand
KEY = {"credential", "account"}
# Fields that a call passes as a mapping, or that the reader of an event adds: event -> fields
PASSED_ON = {
    "refresh": {"outcome", "why", "duration_ms"} | KEY,
    "refresh_failed": {"outcome", "why", "duration_ms"} | KEY,
    "revocation_failed": {"error", "token"} | KEY,
    "reload": {each.name for each in fields(Changes)},
    "start": {  # Summary.fields
        *("version", "compiled", "config", "store", "public_url", "routes", "routes_left_out")
    },
    "listen": {"listen"},
    "stop": {"signal"},
    "link_dropped": {"route"},
    "refused": {"reason", "count"},
    "log_lines_dropped": {"count"},
    "internal_error": {"error"},  # the traceback
}


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
    NotificationMetrics(PREFIX, metrics.registry).is_configured = True
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


@dataclass
class Emitted:
    levels: set[str] = field(default_factory=set)  # in lower case; "any": a variable decides
    fields: set[str] = field(default_factory=set)


def emitted() -> dict[str, Emitted]:
    """What the source logs, by the name of the event."""
    found: dict[str, Emitted] = defaultdict(Emitted)
    for path in sorted((REPOSITORY / "proxy").rglob("*.py")):
        if "demo" in path.parts or path.name == "events.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                _note_call(node, found)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                for level, name in IN_TEXT.findall(node.value):
                    found[name].levels.add(level)
            elif isinstance(node, ast.Dict) and (name := _event_of(node)):
                found[name]  # a line of the audit log, or what a call passes on as a variable
    return found


def _note_call(call: ast.Call, found: dict[str, Emitted]) -> None:
    function = call.func
    called = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    extra = next((each.value for each in call.keywords if each.arg == "extra"), None)
    if isinstance(extra, ast.Dict) and (name := _event_of(extra)):
        found[name].levels.add(called)
    elif called in EMITTERS:
        names = [each.value for each in call.args if isinstance(each, ast.Constant)]
        name = "decision" if called == "decision" else next((each for each in names if _is_name(each)), "")
        if name:  # else it is a function that passes on what it was given
            found[name].levels |= _levels_of(call, called)
            found[name].fields |= {each.arg for each in call.keywords if each.arg}
            if called == "_event" or any("._asdict" in ast.unparse(each) for each in call.keywords):
                found[name].fields |= KEY


def _is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z]+(_[a-z]+)*", value) is not None


def _event_of(node: ast.Dict) -> str:
    for key, value in zip(node.keys, node.values, strict=True):
        is_name = isinstance(value, ast.Constant) and isinstance(value.value, str)
        if isinstance(key, ast.Constant) and key.value == "event" and is_name:
            assert isinstance(value, ast.Constant)
            return str(value.value)
    return ""


def _levels_of(call: ast.Call, called: str) -> set[str]:
    if called in {"unexpected", "decision"}:
        return {{"unexpected": "error", "decision": "debug"}[called]}
    level = call.args[0 if called == "_event" else 1]
    names = {getattr(each, "id", getattr(each, "attr", "")) for each in ast.walk(level)}
    return {name.lower() for name in names & LEVELS} or {"any"}


EMITTED = emitted()
LISTED = {name.strip("`"): rest for name, *rest in rows(section(TEXT, "## Log events"))}
OF_THE_AUDIT_LOG = {"audit_lines_dropped"}


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
