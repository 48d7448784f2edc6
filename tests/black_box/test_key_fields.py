"""Real clients send the caller's key in a field of their own; the upstream gets the token instead."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from tests.fakes.raw_servers import listening, read_message, response

from .key_field_clients import CLIENTS

KEY = "tpk_" + "k" * 43
OTHER_KEY = "tpk_" + "o" * 43
NOBODY = 65534  # a uid without rights
LIMIT = 120  # seconds for a client program; a busy machine is no failure
CURL = ["curl", "-sS", "-w", "%{http_code}"]
JSON = b"Content-Type: application/json"
MODEL = {"id": "m-1", "object": "model", "created": 1, "owned_by": "us"}
DOCUMENTS: dict[str, object] = {
    "/openai/v1/models": {"object": "list", "data": [MODEL]},
    "/azure/openai/models": {"object": "list", "data": [MODEL]},
    "/anthropic/v1/models": {
        "data": [{"type": "model", "id": "m-1", "display_name": "M", "created_at": "2026-01-01T00:00:00Z"}],
        "has_more": False,
        "first_id": "m-1",
        "last_id": "m-1",
    },
    "/google/v1beta/models/m-1": {"name": "models/m-1"},
    "/gitlab/api/v4/user": {"id": 1, "username": "me"},
    "/gitlab/api/v4/version": {"version": "m-1", "revision": "0"},
}


@dataclass
class Api:
    """An upstream that keeps the heads of its requests; it has DOCUMENTS, and the files of `folder`."""

    folder: Path
    port: int = 0
    heads: list[bytes] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        while head := read_message(connection):
            self.heads.append(head)
            path = head.split()[1].decode().partition("?")[0]
            file = self.folder / path.removeprefix("/files/")
            if path in DOCUMENTS:
                connection.sendall(response(json.dumps(DOCUMENTS[path]).encode(), b"200 OK", JSON))
            elif file.is_file():
                connection.sendall(response(file.read_bytes()))
            else:
                connection.sendall(response(b"", b"404 Not Found"))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    (tmp_path / "files").mkdir()
    served = Api(tmp_path / "files")
    with listening(served.serve) as served.port:
        yield served


CALLER = """
[callers.agent]
{identity}

[[routes]]
path = "/"
upstream = "http://127.0.0.1:{port}"
credential = "crm"
"""
BY_KEY = f'key_sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"'


def check_heads(api: Api) -> None:
    """The token is there, once; no byte of a key is."""
    assert api.heads
    for head in api.heads:
        assert head.count(b"\r\nAuthorization: Bearer ") == 1
        assert b"tpk_" not in head
        assert b"authorization: basic" not in head.lower()


def request_lines(log: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "request"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_library_with_its_own_key_field(client, command, credential, api):
    command.configure(credential("crm") + CALLER.format(identity=BY_KEY, port=api.port))
    command.start()
    url = f"http://127.0.0.1:{command.port}"
    assert run_client(client, url, OTHER_KEY) == "refused 401"
    assert api.heads == []
    assert run_client(client, url, KEY) == "m-1"
    check_heads(api)
    command.stop()
    assert {line["caller"] for line in request_lines(command.log())} == {"agent"}


def run_client(client: str, url: str, key: str) -> str:
    program = Path(__file__).with_name("key_field_clients.py")
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    done = run([sys.executable, str(program), client, url, key], env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run(argv, **more):
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False, **more)


def git(*argv: str, folder: Path) -> subprocess.CompletedProcess[str]:
    person = {"NAME": "a", "EMAIL": "a@example.com"}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()},
    }
    return run(["git", *argv], cwd=folder, env=environment)


def test_git_sends_the_password_of_its_url_after_the_basic_challenge(command, credential, api, tmp_path):
    assert shutil.which("git"), "missing: git"
    for step in (
        ["init", "-q", "work"],
        ["-C", "work", "commit", "-q", "--allow-empty", "-m", "one"],
        ["clone", "-q", "--bare", "work", "files/repository.git"],
        ["-C", "files/repository.git", "update-server-info"],
    ):
        assert git(*step, folder=tmp_path).returncode == 0
    command.configure(credential("crm") + CALLER.format(identity=BY_KEY, port=api.port))
    command.start()
    place = f"127.0.0.1:{command.port}/files/repository.git"
    refused = git("clone", "-q", f"http://x:{OTHER_KEY}@{place}", "refused", folder=tmp_path)
    assert refused.returncode != 0
    assert "Authentication failed" in refused.stderr
    assert api.heads == []
    cloned = git("clone", "-q", f"http://x:{KEY}@{place}", "cloned", folder=tmp_path)
    assert cloned.returncode == 0, cloned.stderr
    assert git("-C", "cloned", "log", "--format=%s", folder=tmp_path).stdout == "one\n"
    check_heads(api)


def test_curl_with_a_client_certificate(command, credential, api, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    names = {"server.pem": "127.0.0.1", "right.pem": "build.example", "wrong.pem": "other.example"}
    for file, name in names.items():
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(tmp_path / file))
    certificate, ca = tmp_path / "server.pem", tmp_path / "ca.pem"
    tls = f'tls = {{ cert = "{certificate}", key = "{certificate}", client_ca = "{ca}" }}'
    identity = 'certificate = "build.example"\n' + BY_KEY  # with a key as well, so that one is not required
    command.configure(credential("crm") + CALLER.format(identity=identity, port=api.port), server=tls)
    command.start()
    url = f"https://127.0.0.1:{command.port}/anthropic/v1/models"
    for file, status in ((None, "401"), ("wrong.pem", "401"), ("right.pem", "200")):
        cert = ["--cert", str(tmp_path / file)] if file else []
        done = run([*CURL, "--cacert", str(ca), *cert, url])
        assert done.stdout[-3:] == status, (file, done)
    check_heads(api)
    assert len(api.heads) == 1


@pytest.mark.privileged
def test_a_unix_socket_by_another_uid(command, credential, api, tmp_path):
    place = tmp_path / "run"
    place.mkdir(mode=0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    listen = f'{{ unix = "{place}/data.sock", mode = "0666" }}'
    identity = f"uid = [{NOBODY}]"
    command.configure(credential("crm") + CALLER.format(identity=identity, port=api.port), listen=listen)
    command.start()
    there = ["--unix-socket", str(place / "data.sock"), "http://localhost/anthropic/v1/models"]
    for uid, status in ((NOBODY - 1, "401"), (NOBODY, "200")):
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        done = run([*become, *CURL, *there])
        assert done.stdout[-3:] == status, (uid, done)
    check_heads(api)
