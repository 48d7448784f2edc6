"""A key instead of OAuth, by the real command: served, changed while it runs, lost, and back again."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest

from tests.fakes.raw_servers import listening, read_message, response

from .conftest import until

CONFIG = """
[credentials.notes]
grant = "static"
value = {{ file = "notes.key" }}
attach = {attach}
[[routes]]
name = "notes"
path = "/notes"
upstream = "http://127.0.0.1:{upstream}/v1"
credential = "notes"
"""
X_API_KEY = '{ header = "X-Api-Key", scheme = "" }'
NO = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


class Api:
    """Takes one key, wherever `line` says it is."""

    def __init__(self):
        self.line, self.heads = "", []

    def __call__(self, connection):
        while message := read_message(connection):
            self.heads.append(message)
            connection.sendall(response(b"hello") if self.line.encode() in message else NO)


@pytest.fixture
def api():
    return Api()


@contextmanager
def serving(command, api, attach=X_API_KEY, value="key-1"):
    (command.folder / "notes.key").write_text(f"{value}\n")
    with listening(api) as upstream:
        command.configure(CONFIG.format(attach=attach, upstream=upstream))
        command.start()
        yield
        command.stop()


def status(command):
    (entry,) = json.loads(command.get("/api/status", admin=True)[1])["tokens"]
    return entry


def metric(command, name):
    lines = command.get("/metrics", admin=True)[1].decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)
    }


def test_a_key_is_served_and_taken_up_when_its_file_changes(command, api):
    api.line = "\r\nX-Api-Key: key-1\r\n"
    with serving(command, api):
        assert command.get("/notes/x")[0] == 200
        assert json.loads(command.run("status", "--json").stdout)["tokens"] == [status(command)]
        assert status(command)["state"] == "valid"
        assert command.run("wait").returncode == 0
        assert command.run("token", "notes").stdout == "key-1\n"
        explained = command.run("explain", "GET", f"http://127.0.0.1:{command.port}/notes/x")
        assert explained.returncode == 0
        assert "passes" in explained.stdout
        state = 'token_proxy_token_state{account="default",credential="notes",state="valid"}'
        assert metric(command, "token_proxy_token_state")[state] == 1
        assert metric(command, "token_proxy_token_expiry_timestamp_seconds{") == {}
        assert b"notes" in command.get("/", admin=True)[1]

        api.line = "\r\nX-Api-Key: key-2\r\n"
        assert command.get("/notes/x")[0] == 401
        (command.folder / "notes.key").write_text("key-2\n")
        until(lambda: command.get("/notes/x")[0] == 200, "the new key is taken up")
        assert status(command)["generation"] == 2
        refused = command.run("logout", "notes")
        assert refused.returncode == 1
        assert "change or remove credentials.notes.value" in refused.stderr
    assert "key-1" not in command.log()
    assert "key-2" not in command.log()
    assert b"key-" not in b"".join(path.read_bytes() for path in (command.folder / "state").glob("*"))


def test_a_key_that_is_lost_serves_on_and_is_reported_until_it_is_back(command, api):
    with serving(command, api):
        (command.folder / "notes.key").unlink()
        until(lambda: status(command)["state"] == "misconfigured", "the loss is reported")
        entry = status(command)
        assert entry["reason"].startswith("its value can't be read now")
        assert entry["remedy"].startswith("restore what credentials.notes.value refers to")
        assert command.get("/notes/x")[0] == 200
        assert command.get("/readyz", admin=True)[0] == 200
        warnings = [line for line in command.log().splitlines() if "changed, but not used" in line]
        assert len(warnings) == 1
        (command.folder / "notes.key").write_text("key-1\n")
        until(lambda: status(command)["state"] == "valid", "the key is back")


def test_a_key_in_the_query_is_warned_about_and_never_logged(command, api):
    with serving(command, api, attach='{ query = "key" }', value="s3cr3t/1"):
        assert command.get("/notes/x?a=1&key=mine")[0] == 200
        assert api.heads[0].startswith(b"GET /v1/x?a=1&key=s3cr3t%2F1 HTTP/1.1\r\n")
        checked = command.run("check", "-v")
        assert checked.returncode == 0
        assert "the token is in URLs" in checked.stderr
        assert "client_auth" not in checked.stdout
    assert "the token is in URLs" in command.log()
    assert "s3cr3t" not in command.log() + checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "can't be read"), ("", "is empty"), ("a\nb", "visible")]
)
def test_a_key_that_can_not_be_read_at_the_start_is_a_fault(command, content, reason):
    if content is not None:
        (command.folder / "notes.key").write_text(content)
    command.configure(CONFIG.format(attach=X_API_KEY, upstream=1))
    for name in ("check", "run"):
        found = command.run(name)
        assert found.returncode == 2
        assert reason in found.stderr
        assert "config.toml:" in found.stderr
