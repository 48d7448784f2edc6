"""The token for other tools, by the real command: git, kubectl, curl, and a caller of the data listener."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from tests.deploy.tools import program

from .conftest import until

REPOSITORY = Path(__file__).parents[2]
KEY = "tpk_" + "k" * 43
CALLERS = f"""
[callers.build]
key = "{KEY}"
tokens = ["crm"]
[callers.reader]
key = "tpk_{"r" * 43}"
"""
COMMAND = f"{sys.executable} -m proxy"


@contextmanager
def served(handler, context=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def git(folder, *arguments):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(REPOSITORY),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "LANG": "C.UTF-8",
    }
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def repository(tmp_path):
    """A bare repository with one commit, for the dumb protocol."""
    source, bare = tmp_path / "source", tmp_path / "served" / "repository.git"
    source.mkdir()
    bare.parent.mkdir()
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for arguments in (
        ("init", "-q", "-b", "main", str(source)),
        ("-C", str(source), *who, "commit", "-q", "--allow-empty", "-m", "the first"),
        ("clone", "-q", "--bare", str(source), str(bare)),
        ("-C", str(bare), "update-server-info"),
    ):
        done = git(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
    return bare.parent


def protected(folder, is_good, seen):
    class Protected(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            scheme, _, rest = self.headers.get("Authorization", "").partition(" ")
            user, _, password = (
                base64.b64decode(rest).decode().partition(":") if scheme == "Basic" else ("", "", "")
            )
            if not is_good(password):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.end_headers()
                return
            seen.add(user)
            super().do_GET()

        def log_message(self, *_):
            pass

    return Protected


def test_git_clones_with_the_token_and_gets_another_after_a_401(command, credential, repository):
    command.configure(credential("crm"))
    helper = f"!{COMMAND} token crm --format git -c {command.config}"
    first = command.run("token", "crm").stdout.strip()
    seen, revoked = set(), {""}
    with served(protected(repository, lambda password: password not in revoked, seen)) as port:
        url = f"http://127.0.0.1:{port}/repository.git"
        cloned = git(repository, "-c", f"credential.helper={helper}", "clone", "-q", url, "one")
        assert cloned.returncode == 0, cloned.stderr
        assert seen == {"x-access-token"}
        assert (repository / "one" / ".git").is_dir()
        revoked.add(first)
        refused = git(repository, "-c", f"credential.helper={helper}", "clone", "-q", url, "two")
        assert refused.returncode != 0  # git has erased the password, and does not ask again by itself
        again = git(repository, "-c", f"credential.helper={helper}", "clone", "-q", url, "three")
        assert again.returncode == 0, again.stderr
    assert command.run("token", "crm").stdout.strip() != first


def test_kubectl_reads_the_exec_credential(command, credential, tmp_path):
    command.configure(credential("k8s"))
    authority, seen = trustme.CA(), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    class Cluster(SimpleHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization"))
            body = json.dumps({"gitVersion": "v1.35.0"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with served(Cluster, context) as port:
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [
                {
                    "name": "c",
                    "cluster": {
                        "server": f"https://127.0.0.1:{port}",
                        "certificate-authority": str(tmp_path / "ca.pem"),
                    },
                }
            ],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [
                {
                    "name": "u",
                    "user": {
                        "exec": {
                            "apiVersion": "client.authentication.k8s.io/v1",
                            "command": sys.executable,
                            "args": [
                                *("-m", "proxy", "token", "k8s", "--format", "exec-credential"),
                                *("-c", str(command.config)),
                            ],
                            "interactiveMode": "Never",
                            "provideClusterInfo": True,
                        }
                    },
                }
            ],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
        done = subprocess.run(
            [program("kubectl"), "--kubeconfig", str(tmp_path / "kubeconfig"), "get", "--raw", "/version"],
            cwd=REPOSITORY,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert seen == [f"Bearer {command.run('token', 'k8s').stdout.strip()}"]


def fetch(command, path, key=KEY):
    request = urllib.request.Request(
        f"http://127.0.0.1:{command.port}{path}", headers={"Token-Proxy-Key": key}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as got:
            return got.status, got.headers, json.loads(got.read())
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.loads(error.read())


def test_tokens_that_are_handed_out_are_in_the_audit_log_and_nowhere_else(command, credential):
    command.configure(credential("crm") + CALLERS)
    text = command.config.read_text()
    command.config.write_text(text.replace("[log]", '[log]\naudit = "audit.log"'))
    command.start()
    status, headers, document = fetch(command, "/.token-proxy/token/crm")
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    token = document["access_token"]
    assert command.run("token", "crm").stdout.strip() == token
    assert command.run("token", "crm", "--format", "header").stdout == f"Authorization: Bearer {token}\n"
    assert fetch(command, "/.token-proxy/token/crm", f"tpk_{'r' * 43}")[0] == 403
    explained = command.run("explain", "GET", "/.token-proxy/token/crm", "--caller", "build")
    assert (explained.returncode, "passes" in explained.stdout) == (0, True)
    explained = command.run("explain", "GET", "/.token-proxy/token/crm", "--caller", "reader")
    assert (explained.returncode, "403 caller-denied" in explained.stdout) == (1, True)
    audit = command.folder / "audit.log"
    until(lambda: audit.exists() and audit.read_text().count("\n") >= 5, "all lines are written")
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    given = [line for line in lines if line["event"] == "token_handed_out"]
    assert [(line["caller"], line["credential"], line["account"]) for line in given] == [
        ("build", "crm", "default"),
        ("the command token", "crm", "default"),
        ("the command token", "crm", "default"),
    ]
    asked = [line for line in lines if line["event"] == "request"]
    assert [(line["caller"], line["credential"], line["decision"], line["status"]) for line in asked] == [
        ("build", "crm", "allowed", 200),
        ("reader", "", "caller-denied", 403),
    ]
    assert token not in audit.read_text() + command.log()


def test_a_route_below_the_reserved_path_is_a_fault(command, credential):
    route = '[[routes]]\npath = "/.token-proxy/x"\nupstream = "http://127.0.0.1:1"\ncredential = "crm"\n'
    command.configure(credential("crm") + route + '[callers.a]\nuid = [1]\ntokens = ["crn"]\n')
    found = command.run("check")
    assert found.returncode == 2
    assert "requests below /.token-proxy/ are for this proxy itself: expected another path" in found.stderr
    assert "there is no credential 'crn' - did you mean 'crm'?" in found.stderr
