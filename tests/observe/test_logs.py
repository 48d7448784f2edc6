"""Log lines: their content, and what must not be in them."""

import asyncio
import errno
import io
import json
import logging
import re
import sys

import pytest

from proxy.config.model import Log
from proxy.errors import Fault, StoreError
from proxy.observe import logs
from proxy.observe.log_writer import PIPE_BUF
from proxy.observe.request_log import RequestLog

SECRET = "s3cret-of-somebody"
REQUEST = ("crm", "crm", "default", "", "GET", 200, 12.3, 11.2, 5, 7, "", False, "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stderr(monkeypatch):
    """Replace stderr by a file, or by a terminal."""

    def replace(kind=io.StringIO):
        stream = kind()
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return replace


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# -- the format


def test_for_machines_a_line_is_an_object(stderr):
    stream = stderr()
    logs.set_up(Log())
    extra = {"event": "refresh", "credential": "crm", "account": "default"}
    logging.getLogger("proxy.tokens").info("refreshed %s", "crm/default", extra=extra)
    (line,) = lines(stream)
    assert line.pop("ts") > 1e9
    assert line == {"level": "info", "message": "refreshed crm/default", **extra}


def test_a_line_of_no_event_is_a_notice(stderr):
    stream = stderr()
    logs.set_up(Log())
    logging.getLogger("proxy.tokens").error("the store can't be read")
    assert [(line["event"], line["level"]) for line in lines(stream)] == [("notice", "error")]


def test_on_a_terminal_a_line_is_words(stderr):
    stream = stderr(Terminal)
    logs.set_up(Log())
    logging.getLogger("proxy.process").info("listening on %s", "127.0.0.1:1")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO    listening on 127\.0\.0\.1:1\n", stream.getvalue()
    )


@pytest.mark.parametrize(
    ("kind", "format_", "is_json"),
    [
        (Terminal, "auto", False),
        (Terminal, "json", True),
        (io.StringIO, "auto", True),
        (io.StringIO, "text", False),
    ],
)
def test_the_configuration_chooses_the_format(stderr, kind, format_, is_json):
    stream = stderr(kind)
    logs.set_up(Log(format=format_))
    logging.getLogger("proxy").warning("x")
    RequestLog(Log(format=format_)).refused("no-route")
    assert stream.getvalue().startswith("{") is is_json


def test_the_level_filters(stderr):
    stream = stderr()
    logs.set_up(Log(level="warning"))
    logging.getLogger("proxy.tokens").info("too little")
    logging.getLogger("proxy.logins").info("too little")
    logging.getLogger("proxy.tokens").warning("enough")
    assert [line["message"] for line in lines(stream)] == ["enough"]


# -- what is kept quiet


@pytest.mark.parametrize("level", ["debug", "info"])
def test_libraries_that_repeat_what_was_sent_are_quiet(stderr, level):
    stream = stderr()
    logs.set_up(Log(level=level))
    for name in ("authlib", "authlib.oauth2.rfc6749", "aiohttp", "aiohttp.client", "asyncio", "other"):
        logging.getLogger(name).debug(SECRET)
    for name in ("aiohttp.server", "aiohttp.access", "aiohttp.client", "asyncio"):
        logging.getLogger(name).error(SECRET)
    assert stream.getvalue() == ""
    assert logging.getLogger("authlib.oauth2").getEffectiveLevel() >= logging.INFO


def failing(error):
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize("set_up", [lambda: logs.set_up(Log()), lambda: logs.set_up(Log(format="text"))])
def test_a_traceback_has_no_messages_of_libraries(stderr, set_up):
    stream = stderr()
    set_up()
    logging.getLogger("proxy").error("it failed", exc_info=failing(ValueError(SECRET)))
    assert SECRET not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert "in failing" in stream.getvalue()


def test_a_traceback_has_messages_of_our_own_errors_and_the_systems_but_not_of_their_causes():
    error = failing(StoreError("the disk is full"))
    error.__cause__ = failing(KeyError(SECRET))
    told = logs.failure_text(error)
    assert "StoreError: the disk is full" in told
    assert "KeyError" in told
    assert SECRET not in told
    assert "No such file" in logs.failure_text(failing(FileNotFoundError(2, "No such file or directory")))


async def test_a_failed_callback_is_logged_without_its_arguments(stderr):
    stream = stderr()
    logs.set_up(Log())
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.on_loop_exception)
    loop.call_soon(failing_callback, SECRET)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert "ZeroDivisionError" in line["error"]
    assert SECRET not in stream.getvalue()


def failing_callback(_data):
    1 / 0  # noqa: B018 (it is to fail)


# -- a command's


def test_a_command_says_what_matters_as_a_sentence_without_a_traceback(stderr):
    stream = stderr()
    logs.set_up_command(debug=False)
    logging.getLogger("proxy.tokens").warning("refresh failed")
    logging.getLogger("proxy.logins").warning("no refresh token")
    logging.getLogger("proxy.tasks").error("task x failed", exc_info=failing(ValueError("x")))
    assert stream.getvalue() == "token-proxy: no refresh token\ntoken-proxy: task x failed\n"


def test_a_command_with_debug_says_all(stderr):
    stream = stderr()
    logs.set_up_command(debug=True)
    logging.getLogger("proxy.tokens").debug("something small")
    logging.getLogger("proxy.logins").debug("and here")
    assert stream.getvalue().count("\n") == 2


def test_a_server_with_debug_says_all_whatever_its_configured_level(stderr):
    stream = stderr()
    logs.set_up_command(debug=True)
    logs.set_up(Log(level="error"))
    logging.getLogger("proxy.relay").debug("a decision")
    assert lines(stream)[0]["level"] == "debug"
    assert RequestLog(Log(level="error")).enabled


class Broken(io.StringIO):
    """A stderr that can not be written."""

    def write(self, _text):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "gone"), ValueError("closed file")],
)
def test_a_stderr_that_can_not_be_written_fails_no_request(stderr, error):
    stderr(Broken).error = error
    logs.set_up(Log())
    logging.getLogger("proxy").warning("x")
    log = RequestLog(Log())
    log.add(log.lines.line(*REQUEST))
    log.flush()


def test_a_stderr_that_was_closed_before_the_start_fails_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    logs.set_up(Log(format="json"))
    with logs.own_thread(Log(format="json")):
        logging.getLogger("proxy").warning("x")
        log = RequestLog(Log(format="json"))
        log.add(log.lines.line(*REQUEST))
        log.flush()


def test_a_record_that_can_not_be_formatted_is_a_line_that_says_so(stderr):
    stream = stderr()
    logs.set_up(Log())
    logging.getLogger("proxy").warning("%d", SECRET)
    (line,) = lines(stream)
    assert line["message"] == "this line can't be formatted: TypeError"
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("depth", [5, 60, 900])
def test_a_traceback_leaves_its_line_within_one_atomic_write(stderr, depth):
    def fall(left):
        if left:
            fall(left - 1)
        raise ZeroDivisionError

    stream = stderr()
    logs.set_up(Log())
    try:
        fall(depth)
    except ZeroDivisionError:
        logging.getLogger("proxy").exception("it failed")
    (line,) = lines(stream)
    assert len(stream.getvalue()) <= PIPE_BUF
    assert "ZeroDivisionError" in line["error"]
    assert "in fall" in line["error"]


def test_each_warning_about_the_configuration_is_a_log_line(stderr):
    stream = stderr()
    logs.set_up(Log())
    logs.warn([Fault(3, 7, "a secret in the file", "key = '***'"), Fault(4, 1, "another")], "c.toml")
    assert [(line["level"], line["message"]) for line in lines(stream)] == [
        ("warning", "c.toml:3:7: a secret in the file"),
        ("warning", "c.toml:4:1: another"),
    ]


class Falls:
    def __del__(self):
        raise ValueError(SECRET)


def test_an_exception_in_a_destructor_is_a_line_of_the_log_without_its_text(capfd):
    logs.set_up(Log(format="json"))
    with logs.own_thread(Log(format="json")):
        Falls()
    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert line["message"] == "in a destructor"
    assert "ValueError" in line["error"]
    assert SECRET not in line["error"]
