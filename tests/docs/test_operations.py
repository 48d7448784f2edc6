"""docs/operations.md: its commands work as they stand, and what it lists is what the code has.

Each block with a marker is run by bash as it stands, stopped by the first failure; only the port of the
health listener is another. The block that a person answers is run line by line.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from proxy.config import changes
from proxy.config.variables import VARIABLES
from proxy.demo.remote import RemoteServer, started
from proxy.demo.wiring import free_ports
from tests.checkout import checkout
from tests.docs.pages import DOCS, REPOSITORY, blocks, rows, section, words
from tests.e2e.processes import plain_environment, wait_until

PAGE = DOCS / "operations.md"
TEXT = PAGE.read_text()
RUN = {block.name: block.text for block in blocks(PAGE) if block.name}
NOT_RUN = {  # the first line of each other block, and why
    # needs logrotate; tests/commands/test_audit.py renames the file and sends SIGHUP
    "/var/lib/token-proxy/audit.log {",
    # needs a second machine, with sshd
    "ssh -N -L 8081:127.0.0.1:8081 HOST",
}
HEALTH = "127.0.0.1:9102"  # as on the page
LIMIT = 120  # seconds
NEEDS_LOGIN = 3  # exit code
OF_THE_NETWORK = ("UV_", "PIP_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
CONFIG = """\
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
health = "127.0.0.1:{health}"
state_dir = "{state}"

[log]
format = "json"

[credentials.crm]
issuer = "{issuer}"
client_id = "app"
client_secret = {{ file = "secret" }}
scopes = ["api"]

[[routes]]
path = "/crm"
upstream = "{api}"
credential = "crm"
"""


def test_every_block_is_run_or_has_a_reason_why_not():
    others = [block for block in blocks(PAGE) if not block.name]
    assert {block.text.splitlines()[0].partition("  ")[0] for block in others} == NOT_RUN
    assert RUN.keys() == {
        *("install", "check", "environment", "wait", "reload", "probes", "scrape", "rotate", "night")
    }
    assert len(blocks(PAGE)) == len(RUN) + len(NOT_RUN)


# -- blocks that need no server


def in_bash(
    text: str, folder: Path, variables: Mapping[str, str], path: str = ""
) -> subprocess.CompletedProcess[str]:
    """`path`: in place of the folder of our commands."""
    search = [path or str(Path(sys.executable).parent), os.environ["PATH"]]
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={**plain_environment(folder, variables), "PATH": ":".join(search)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=LIMIT,
        check=False,
    )


def test_install(tmp_path):
    """From the sources, of which little is compiled, with packages from where the tests have theirs."""
    ours = tmp_path / "bin"
    ours.mkdir()
    (ours / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    network = {key: value for key, value in os.environ.items() if key.upper().startswith(OF_THE_NETWORK)}
    cache = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")
    variables = {
        **network,
        "UV_CACHE_DIR": cache,
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(ours),
        "UV_PYTHON": sys.executable,
    }
    source = checkout(tmp_path / "source")
    done = in_bash(RUN["install"], source, variables, path=str(ours))
    assert done.returncode == 0, done.stderr
    assert re.match(r"token-proxy, version \S+ \(partly compiled: 2 of ", done.stdout)
    assert (tmp_path / "tools" / "token-proxy").is_dir()


def test_environment(tmp_path):
    (tmp_path / "secret").write_text("a secret")
    done = in_bash(RUN["environment"], tmp_path, {})
    assert done.returncode == 0, done.stderr
    assert "https://api.example.com/v2" in done.stdout
    assert "a secret" not in done.stdout + done.stderr


# -- a server and what is done about it, one after the other


@dataclass
class Site:
    """A folder with a configuration, and the server that serves it, as on a host."""

    folder: Path
    health: int
    authorization_server: RemoteServer
    server: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        with self.log.open("wb") as log:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "proxy", "run", "-c", str(self.folder / "config.toml")],
                cwd=REPOSITORY,
                env=plain_environment(self.folder, {}),
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def events(self, name: str) -> list[dict[str, object]]:
        lines = [line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [found for found in map(json.loads, lines) if found["event"] == name]

    def run(self, block: str, **variables: str) -> str:
        """Run a block of the page; what it prints."""
        done = self.line(RUN[block], **variables)
        assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
        return done.stdout

    def line(self, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return in_bash(text.replace(HEALTH, f"127.0.0.1:{self.health}"), self.folder, variables)

    def log_in(self, line: str) -> str:
        """A person who opens the last URL, and pastes where it has led; what the command prints."""
        output = self.folder / "login"
        with output.open("wb") as stdout:
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            command = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", line],
                cwd=self.folder,
                env={**plain_environment(self.folder, {}), "PATH": path},
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(lambda: "paste the URL" in output.read_text(), "the URLs")
            *_, url = re.findall(r"^https?://\S+$", output.read_text(), re.MULTILINE)
            there = requests.post(url, data={"user": "alice"}, allow_redirects=False, timeout=LIMIT)
            command.communicate(f"{there.headers['Location']}\n".encode(), LIMIT)
        finally:
            command.kill()
            command.wait()
        assert command.returncode == 0, output.read_text()
        return output.read_text()


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    data, admin, health = free_ports(0, 0, 0)
    redirect_uri = f"http://127.0.0.1:{admin}/callback"
    options = ["--client", "app:the-old-secret", "--redirect-uri", redirect_uri, "--lifetime", "3600"]
    with started(*options) as authorization_server:
        text = CONFIG.format(
            data=data,
            admin=admin,
            health=health,
            state=tmp_path / "state",
            issuer=authorization_server.issuer,
            api=authorization_server.api,
        )
        (tmp_path / "config.toml").write_text(text)
        (tmp_path / "secret").write_text("the-old-secret")
        made = Site(tmp_path, health, authorization_server)
        try:
            yield made
        finally:
            made.server.kill()
            made.server.wait()


def test_the_life_of_a_server(site):
    assert "no faults" in site.run("check")
    assert site.line(RUN["wait"].splitlines()[0]).returncode == 0, "up, without a login"

    said = site.run("probes")
    assert "ok" in said
    assert '"state": "absent"' in said or '"state": "login_required"' in said

    status, login = RUN["night"].splitlines()
    shown = site.line(status)
    assert shown.returncode == NEEDS_LOGIN
    assert "token-proxy login crm" in shown.stdout
    assert "logged in" in site.log_in(login)
    assert site.line(status).returncode == 0

    assert "CRM_BASE_URL=http://127.0.0.1:" in site.run("wait")
    assert '"ready": true' in site.run("probes")
    assert "token_proxy_ready 1.0" in site.run("scrape")

    before = len(site.events("reload"))
    site.run("reload", PID=str(site.server.pid))
    wait_until(lambda: len(site.events("reload")) > before, "the reload")
    assert "nothing has changed" in str(site.events("reload")[-1]["message"])

    site.run("rotate", NEW_SECRET="the-new-secret")
    taken_up = str(site.folder / "secret")
    wait_until(lambda: any(each.get("files") == taken_up for each in site.events("reload")), "the secret")

    site.server.terminate()
    assert site.server.wait(LIMIT) == 0


# -- lists


def test_the_variables_are_those_of_the_code():
    listed: list[str] = []
    for cells in rows(section(TEXT, "## Configure")):
        for name in words(cells[0]):
            listed.append(name.removesuffix("[_FILE]"))
            listed += [name.replace("[", "").replace("]", "")] if name.endswith("]") else []
    assert sorted(listed) == sorted(each.suffix for each in VARIABLES)


def test_what_needs_a_restart_is_listed():
    text = section(TEXT, "## Reload")
    (item,) = re.findall(r"^- These need a restart.*?(?=^- )", text, re.MULTILINE | re.DOTALL)
    tables = {"[server]", "[store]", "[limits]"}
    assert words(item) - tables == {*changes._SERVER, *changes._LIMITS, *changes._TLS}


def test_deployments_that_are_named_exist():
    named = re.findall(r"(?<!tests/)\bdeploy/[\w./-]*\w", TEXT)
    assert named
    for path in named:
        assert (REPOSITORY / path).exists(), path
