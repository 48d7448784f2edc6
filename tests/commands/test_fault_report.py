"""Faults of a configuration on a terminal, in a pipe, and in the log of a server."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from proxy.commands import fault_report
from proxy.errors import ConfigError, Fault

COMMAND = [sys.executable, "-m", "proxy", "check"]
WRONG = "[credentials.crm]\nissuer = 'https://login.example'\nclient_id = 'x'\nscope = 'api'\n"
UNUSED = "[credentials.crm]\nissuer = 'https://login.example'\nclient_id = 'x'\n"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
PLAIN = """\
config.toml:4:1: unknown key 'scope' - did you mean 'scopes'?
    4 | scope = 'api'
      | ^
config.toml:4:9: expected a list: scopes = ["api"]
    4 | scope = 'api'
      |         ^
"""


def on_terminal(folder, **environ):
    """What `check` writes to a terminal."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        COMMAND, cwd=folder, env={**os.environ, **environ}, stdin=its, stdout=its, stderr=its
    ) as process:
        os.close(its)
        said = b""
        while True:
            try:
                said += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
        code = process.wait(60)
    os.close(ours)
    return code, said.decode().replace("\r\n", "\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("TOKEN_PROXY_CONFIG", raising=False)
    return tmp_path


def test_a_terminal_shows_faults_in_colour(folder):
    (folder / "config.toml").write_text(WRONG)
    code, said = on_terminal(folder, TERM="xterm-256color")
    assert (code, ESCAPE.sub("", said)) == (2, PLAIN)
    first, line, caret, *_ = said.splitlines()
    assert first == "\x1b[1mconfig.toml:4:1: unknown key 'scope' - did you mean 'scopes'?\x1b[0m"
    assert line == "\x1b[34m\x1b[1m    4 |\x1b[0m scope = 'api'"
    assert caret.endswith("\x1b[31m\x1b[1m ^\x1b[0m")


def test_a_terminal_shows_warnings_in_colour(folder):
    (folder / "config.toml").write_text(UNUSED)
    code, said = on_terminal(folder, TERM="xterm-256color")
    assert code == 0
    assert said.startswith("\x1b[33m\x1b[1mwarning: \x1b[0m\x1b[1mconfig.toml:1:1: there are no routes")


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": ""}])
def test_a_terminal_without_colours_shows_plain_text(folder, environ):
    (folder / "config.toml").write_text(WRONG)
    assert on_terminal(folder, **environ) == (2, PLAIN)


def test_a_pipe_gets_plain_text(folder):
    (folder / "config.toml").write_text(WRONG)
    done = subprocess.run(
        COMMAND, cwd=folder, env={**os.environ, "TERM": "xterm"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", PLAIN)


def test_no_control_character_reaches_the_terminal(folder):
    name = "\x1b]0;title\x07\u202e.toml"
    (folder / name).write_text(
        '[server]\n"\\u001b[2J\\u202e" = 1\nlisten = 7 # \x7f\n'.replace("\x7f", "\u2066")
    )
    done = subprocess.run(
        [*COMMAND, "-c", name], cwd=folder, capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 2
    assert "expected host and port" in done.stderr
    assert all(each.isprintable() or each == "\n" for each in done.stderr), done.stderr


class Terminal:
    def isatty(self):
        return True


def test_the_caret_is_below_wide_characters(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    fault = Fault(1, 10, "wrong", 'x = "語e\u0301" # 9')
    assert fault_report.one_fault(fault, "f", Terminal()).splitlines()[-1] == "      |          ^"


def test_a_fault_of_several_lines_is_bold_in_its_first(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    said = fault_report.all_faults(ConfigError("x", [Fault(0, 0, "one\ntwo | 2")]), Terminal())
    assert said == "\x1b[1mx: one\x1b[0m\ntwo | 2"


def test_warnings_of_a_server_are_events_of_its_log(folder):
    """A pipe gets JSON: no line of another form comes before it."""
    text = UNUSED + "client_secret = 'in-the-file'\n[server]\nlisten = '127.0.0.1:0'\nadmin = '127.0.0.1:0'\n"
    (folder / "config.toml").write_text(text)
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "run"], cwd=folder, stderr=subprocess.PIPE, text=True
    ) as server:
        events = []
        for line in server.stderr:
            events.append(json.loads(line))
            if events[-1]["event"] == "start":
                server.terminate()
    assert server.returncode == 0
    (warning,) = (each for each in events if each["event"] == "config_warning")
    assert warning["level"] == "warning"
    assert warning["message"].startswith("config.toml:4:17: a secret in the configuration file itself - ")
    assert "in-the-file" not in str(events)
