"""The log lines of requests: their fields, their order, and those that are counted only."""

import io
import json
import logging
import sys
import threading
from weakref import WeakSet

import pytest

from proxy.config.model import Log
from proxy.observe import logs, request_lines, request_log
from proxy.observe.request_lines import UNKNOWN
from proxy.observe.request_log import RequestLog

FIELDS = {
    "route": "crm",
    "credential": "crm",
    "account": "default",
    "caller": "",
    "method": "GET",
    "status": 200,
    "milliseconds": 12.345,
    "upstream": 11.2,
    "bytes_in": 5,
    "bytes_out": 7,
    "error": "",
    "replayed": False,
    "request_id": "",
}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def request(**fields):
    return tuple({**FIELDS, **fields}.values())


def add(log, **fields):
    log.add(log.lines.line(*request(**fields)))


def written(log, *requests):
    chunks = []
    requests_log = RequestLog(log, chunks.append)
    for each in requests:
        requests_log.add(requests_log.lines.line(*each))
    requests_log.flush()
    return "".join(chunks)


def json_line(**fields):
    return json.loads(written(Log(format="json"), request(**fields)))


def text_line(**fields):
    return written(Log(format="text"), request(**fields))[20:]


def test_a_request_is_logged_with_the_fields_of_the_contract():
    line = json_line()
    assert line.pop("ts") > 1e9
    assert line == {
        "level": "info",
        "event": "request",
        "message": "GET on route crm",
        "route": "crm",
        "credential": "crm",
        "account": "default",
        "method": "GET",
        "status": 200,
        "duration_ms": 12.3,
        "upstream_ms": 11.2,
        "bytes_in": 5,
        "bytes_out": 7,
    }


@pytest.mark.parametrize(
    "more",
    [
        {"caller": "build"},
        {"error": "upstream-tls"},
        {"replayed": True},
        {"request_id": TRACE},
        {"error": "caller-gone", "replayed": True, "request_id": TRACE, "caller": "build"},
    ],
)
def test_what_few_requests_have_is_a_field_of_those_only(more):
    assert json_line(**more).items() >= more.items()
    assert not json_line().keys() & more.keys()


def test_without_a_response_of_the_upstream_its_time_is_left_out():
    assert "upstream_ms" not in json_line(upstream=UNKNOWN, status=502, error="upstream-tls")
    assert "upstream" not in text_line(upstream=UNKNOWN)


def test_a_request_on_a_terminal_is_a_line_of_words():
    assert text_line() == (
        "INFO    GET on route crm with account crm/default: 200 in 12.3 ms (upstream 11.2 ms), 5 bytes in, "
        "7 bytes out\n"
    )
    assert text_line(caller="build", account="", replayed=True, error="caller-gone", request_id=TRACE) == (
        "INFO    GET on route crm with credential crm for build: 200 in 12.3 ms (upstream 11.2 ms), "
        f"5 bytes in, 7 bytes out, replayed, error caller-gone, request {TRACE}\n"
    )


def test_a_line_on_a_terminal_has_its_date():
    assert written(Log(format="text"), request())[:20].count("-") == 2


def test_each_combination_of_names_has_its_own_line():
    names = ("route", "credential", "account", "caller", "method")
    lines = written(
        Log(format="json"), request(), *(request(**{name: "other"}) for name in names), request()
    ).splitlines()
    told = [json.loads(line) for line in lines]
    for name, line in zip(names, told[1:-1], strict=True):
        assert line[name] == "other"
        assert {key: value for key, value in line.items() if key not in {"ts", "message", name}} == {
            key: value for key, value in told[0].items() if key not in {"ts", "message", name}
        }
    assert told[-1] | {"ts": 0} == told[0] | {"ts": 0}


def test_memory_for_names_is_bounded():
    log = RequestLog(Log(format="json"), lambda _: None)
    for number in range(3 * request_lines.REMEMBERED):
        add(log, account=f"user{number}")
    assert len(log.lines._known) <= request_lines.REMEMBERED


@pytest.mark.parametrize(
    ("level", "enabled"), [("debug", True), ("info", True), ("warning", False), ("error", False)]
)
def test_requests_are_logged_at_level_info(level, enabled):
    assert RequestLog(Log(level=level)).enabled is enabled


def test_many_requests_are_written_at_once():
    chunks = []
    log = RequestLog(Log(format="json"), chunks.append)
    for _ in range(request_log.FLUSH_AT - 1):
        add(log)
    assert chunks == []
    add(log)
    assert len(chunks) == 1
    assert chunks[0].count("\n") == request_log.FLUSH_AT


def test_a_flood_of_refusals_is_a_line_for_each_reason():
    chunks = []
    log = RequestLog(Log(format="json", level="warning"), chunks.append)
    for _ in range(1000):
        log.refused("host-refused")
    log.refused("no-route")
    log.flush()
    told = [json.loads(line) for line in chunks[0].splitlines()]
    assert [(line["event"], line["message"], line["reason"], line["count"]) for line in told] == [
        ("refused", "refused: host-refused", "host-refused", 1000),
        ("refused", "refused: no-route", "no-route", 1),
    ]
    log.flush()
    assert len(chunks) == 1


def test_at_level_error_refusals_are_not_logged():
    chunks = []
    log = RequestLog(Log(level="error"), chunks.append)
    log.refused("no-route")
    log.flush()
    assert chunks == []


# -- order and spelling


@pytest.fixture
def json_log(monkeypatch):
    """Set up a server's log; returns the file that it is written to."""

    def set_up():
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(logs, "pending", WeakSet())  # of other tests
        logs.set_up(Log(format="json"))
        return stream

    return set_up


def test_the_lines_of_requests_come_before_newer_ones(json_log):
    stderr = json_log()
    log = RequestLog(Log(format="json"))
    add(log)
    log.refused("no-route")
    logging.getLogger("proxy.tokens").warning("a token was refreshed")
    add(log)
    log.flush()
    told = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert [line["event"] for line in told] == ["request", "refused", "notice", "request"]
    assert [line["ts"] for line in told] == sorted(line["ts"] for line in told)


def test_another_threads_line_leaves_them_where_they_are(json_log):
    stderr = json_log()
    log = RequestLog(Log(format="json"))
    add(log)
    thread = threading.Thread(target=logging.getLogger("proxy.store").warning, args=("from a thread",))
    thread.start()
    thread.join()
    assert [json.loads(line)["event"] for line in stderr.getvalue().splitlines()] == ["notice"]
    log.flush()
    assert stderr.getvalue().count("\n") == 2


def test_there_is_one_spelling_of_json(json_log):
    stderr = json_log()
    log = RequestLog(Log(format="json"))
    add(log, error="caller-gone", replayed=True, request_id=TRACE, caller="build")
    add(log, upstream=UNKNOWN)
    log.refused("no-route")
    logging.getLogger("proxy.tokens").warning("a line")
    lines = [*stderr.getvalue().splitlines(), logs._json_dropped(1.5, 3).rstrip()]
    assert len(lines) == 5
    for line in lines:
        found = json.loads(line)
        assert found.keys() >= {"ts", "level", "event", "message"}
        numbers = {"ts", "duration_ms", "upstream_ms"}  # trailing zeros
        assert json.dumps({key: 0 if key in numbers else value for key, value in found.items()}) == (
            json.dumps(json.loads(line, parse_float=lambda _: 0))
        )
        assert line.startswith('{"ts": ')
        assert '":' not in line.replace('": ', "")
        assert '",' not in line.replace('", ', "")
