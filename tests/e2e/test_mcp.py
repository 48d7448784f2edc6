"""One login for all agents of a machine: the reference SDK's MCP server and clients.

The authorization server registers clients, wants the resource in each request, and rotates refresh tokens.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.docs.pages import DOCS, blocks
from tests.servers import programs

from .authorization_servers import ACCESS_TTL, ALICE, OIDC_PROVIDER, install_oidc_provider, install_packages
from .browser import Browser
from .conftest import HERE
from .processes import Service, free_port, plain_environment, wait_until
from .proxy_process import COMMAND_LIMIT, Proxy

TYPESCRIPT = HERE / "callers" / "mcp_typescript"
PAGE_URL = "http://127.0.0.1:8080/docs"
CONFIG = """
[server]
listen = "127.0.0.1:{data_port}"
admin = "127.0.0.1:{admin_port}"
state_dir = "{folder}/state"
[log]
level = "debug"
[credentials.docs]
mcp = "{url}"
refresh_at = 0.6
"""


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    install_oidc_provider()
    command = [programs.find("node"), str(OIDC_PROVIDER / "registering.mjs")]
    service = Service(command, tmp_path_factory.mktemp("registering"), {"ACCESS_TTL": str(ACCESS_TTL)})
    yield service
    service.stop()


@pytest.fixture
def mcp(auth: Service, tmp_path: Path) -> Iterator[Service]:
    auth.mark()
    service = Service(
        [sys.executable, str(HERE / "servers" / "mcp_server.py")],
        tmp_path / "mcp",
        {
            "ISSUER": auth.ready["issuer"],
            "INTROSPECTION": auth.ready["introspection_endpoint"],
            "PORT": str(free_port()),
        },
    )
    yield service
    service.stop()


@pytest.fixture
def proxy(mcp: Service, tmp_path: Path) -> Iterator[Proxy]:
    data_port, admin_port = free_port(), free_port()
    made = Proxy(tmp_path, data_port, admin_port, f"http://127.0.0.1:{admin_port}", {})
    made.config.write_text(
        CONFIG.format(data_port=data_port, admin_port=admin_port, folder=tmp_path, url=mcp.ready["url"])
    )
    yield made
    made.stop()


class Agent:
    def __init__(self, folder: Path, proxy: Proxy, name: str, mode: str) -> None:
        self._out, self._err = folder / name, folder / f"{name}-errors"
        command = [sys.executable, str(HERE / "callers" / "mcp_agent.py")]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [*command, name, f"http://127.0.0.1:{proxy.data_port}/docs", mode],
                stdout=out,
                stderr=err,
                env=plain_environment(folder, {}),
            )

    def printed(self, kind: str) -> list[str]:
        if self._process.poll() is not None:
            pytest.fail(f"the agent ended: {self._err.read_text()}")
        lines = self._out.read_text().splitlines()
        return [line for line in lines if line.startswith(f"{kind} ")]

    def has_done_more(self, calls: int = 3) -> None:
        """Wait for so many more calls that went well."""
        before = len(self.printed("done"))
        wait_until(lambda: len(self.printed("done")) >= before + calls, "the agent's next calls")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def log_in(proxy: Proxy) -> None:
    browser = Browser()
    callback = ALICE.approve(browser, proxy.admin("/login/docs/default"), f"{proxy.public_url}/callback/docs")
    assert browser.open(callback).status == 200


def test_two_agents_share_a_login_across_rotations_and_a_restart(
    auth: Service, mcp: Service, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.start()
    log_in(proxy)
    agents = [Agent(tmp_path, proxy, name, mode) for name, mode in [("one", "legacy"), ("two", "auto")]]
    try:
        for agent in agents:
            agent.has_done_more()
            assert set(agent.printed("counted")) == {"counted 3 3"}  # each event of the stream came through
        wait_until(lambda: len(tokens_of(mcp)) >= 3, "three access tokens, by rotation")
        failed = [agent.printed("failed") for agent in agents]
        assert failed == [[], []]
        proxy.stop()
        proxy.start()
        before = len(tokens_of(mcp))
        for agent in agents:
            agent.has_done_more()
        wait_until(lambda: len(tokens_of(mcp)) >= before + 2, "two more access tokens after the restart")
        for agent in agents:
            agent.has_done_more()
            assert agent.printed("error") == []
            assert {line.split()[1] for line in agent.printed("done")} == {"alice"}
    finally:
        for agent in agents:
            agent.stop()
    status = requests.get(proxy.admin("/api/status"), timeout=20).json()
    assert [token["account"] for token in status["tokens"]] == ["default"]
    assert status["counts"].keys() == {"docs"}, "the registered client is no account"
    assert {call["agent"] for call in mcp.events("call")} == {"one", "two"}
    assert len(auth.events("registered")) == 1
    assert auth.events("family_revoked") == []
    # On a busy machine a token may end on its way: the request is sent again, which no agent notices.
    assert all(each["claims"] == {"active": False} for each in mcp.events("refused"))
    requests_ = auth.events("token")
    assert [each["grant"] for each in requests_].count("authorization_code") == 1
    assert {(each["outcome"], json.dumps(each["resource"])) for each in requests_} == {
        ("success", json.dumps(mcp.ready["url"]))
    }


@pytest.mark.parametrize("language", ["python", "typescript"])
def test_the_programs_of_the_page_need_no_authorization(language: str, proxy: Proxy, tmp_path: Path) -> None:
    proxy.start()
    log_in(proxy)
    (block,) = [each for each in blocks(DOCS / "mcp.md") if each.language == language]
    assert PAGE_URL in block.text
    text = block.text.replace(PAGE_URL, f"http://127.0.0.1:{proxy.data_port}/docs")
    command = [sys.executable, "-c", text]
    if language == "typescript":  # it is JavaScript too
        install_packages(TYPESCRIPT)
        command = [programs.find("node"), "--input-type=module", "--eval", text]
    done = subprocess.run(
        command,
        cwd=TYPESCRIPT,
        env=plain_environment(tmp_path, {}),
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT,
        check=False,
    )
    assert (done.returncode, sorted(done.stdout.split())) == (0, ["count", "whoami"]), done.stderr


def tokens_of(mcp: Service) -> set[int]:
    return {call["token"] for call in mcp.events("call")}


def test_a_dead_mcp_server_stops_neither_the_start_nor_other_routes(mcp: Service, proxy: Proxy) -> None:
    mcp.stop()
    proxy.start()
    too_early = requests.post(f"http://127.0.0.1:{proxy.data_port}/docs", json={}, timeout=20)
    assert (too_early.status_code, too_early.json()["login_url"]) == (503, proxy.admin("/login/docs/default"))
    page = Browser()
    asked = page.open(proxy.admin("/login/docs/default"))
    answer = page.submit(asked, asked.forms[0])
    assert "the MCP server can&#39;t be reached" in answer.text
    (token,) = requests.get(proxy.admin("/api/status"), timeout=20).json()["tokens"]
    assert "the last login failed" in token["reason"]
    assert "mcp_unreachable" in token["reason"]
    done = proxy.run("login", "docs", "--no-browser")
    assert (done.returncode, "the MCP server can't be reached (mcp_unreachable: " in done.stderr) == (1, True)
