"""The main journey by the real command, against more real servers: the first weeks of a user."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from . import more_servers
from .authorization_servers import ACCESS_TTL, ALICE, AuthorizationServer
from .conftest import MakeProxy
from .more_servers import JourneyServer
from .processes import wait_until
from .proxy_process import Proxy
from .reference import call_upstream

LIVES = 3  # of access tokens, in which no request fails
MACHINE = """
[credentials.machine]
{credential}
[[routes]]
name = "machine"
path = "/machine"
upstream = "{upstream}"
credential = "machine"
tls = {{ ca = "{ca}" }}
"""


@pytest.fixture(scope="session", params=more_servers.KINDS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redirect_uris: list[str]
) -> Iterator[JourneyServer]:
    server = more_servers.start(request.param, tmp_path_factory.mktemp(request.param), redirect_uris)
    yield server
    server.stop()


@pytest.fixture
def journey(running: JourneyServer) -> JourneyServer:
    running.service.mark()
    return running


@pytest.fixture
def proxy(journey: JourneyServer, make_proxy: MakeProxy) -> Proxy:
    machine = MACHINE.format(
        credential=journey.machine_credential(), upstream=journey.upstream_url, ca=journey.ca
    )
    return make_proxy(journey, more=machine)


def status_of(proxy: Proxy, path: str = "/whoami") -> int:
    return requests.get(proxy.api(path), timeout=60).status_code


def outcomes(server: AuthorizationServer, grant: str) -> list[str]:
    return [request["outcome"] for request in server.token_requests(grant)]


def test_a_person_logs_in_works_across_expiries_a_restart_a_revocation_and_logs_out(
    journey: JourneyServer, proxy: Proxy
) -> None:
    assert proxy.run("check").returncode == 0
    proxy.start()
    too_early = requests.get(proxy.api("/whoami"), timeout=60)
    assert (too_early.status_code, too_early.json()["login_url"]) == (503, proxy.admin("/login/crm/default"))
    proxy.login_by_page(ALICE)

    _work_for(proxy, journey, LIVES)
    assert set(outcomes(journey, "refresh_token")) == {"success"}

    proxy.stop()
    proxy.start()
    assert status_of(proxy) == 200
    printed = proxy.run("token", "crm")
    assert printed.returncode == 0, printed.stderr
    assert call_upstream(journey, printed.stdout.strip()).status_code == 200

    requests.post(f"{journey.service.ready['control']}/end_all", timeout=60).raise_for_status()
    wait_until(lambda: status_of(proxy) == 503, "the revocation to be noticed")
    wait_until(lambda: proxy.run("status").returncode == 3, "a person to be asked for")
    assert requests.get(proxy.api("/whoami"), timeout=60).json()["login_url"]
    proxy.login_by_page(ALICE)
    assert status_of(proxy) == 200

    done = proxy.run("logout", "crm")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: status_of(proxy) == 503, "the logout to be honoured")
    assert proxy.run("status").returncode == 3
    assert not any(secret in proxy.log() for secret in proxy.environment.values())


def test_a_machine_needs_no_login(journey: JourneyServer, proxy: Proxy) -> None:
    proxy.start()
    url = f"http://127.0.0.1:{proxy.data_port}/machine/whoami"
    assert requests.get(url, timeout=60).status_code == 200
    shown = json.loads(proxy.run("status", "--json").stdout)["tokens"]
    assert [each["state"] in {"valid", "stale"} for each in shown if each["credential"] == "machine"] == [
        True
    ]
    wait_until(
        lambda: (
            requests.get(url, timeout=60).status_code == 200
            and len(outcomes(journey, "client_credentials")) >= 2
        ),
        "a second token",
    )
    assert set(outcomes(journey, "client_credentials")) == {"success"}


def _work_for(proxy: Proxy, server: JourneyServer, lives: int) -> None:
    """Requests at a steady pace, until so many refreshes have happened; each must be served."""
    seen: list[int] = []

    def is_over() -> bool:
        seen.append(status_of(proxy))
        return len(outcomes(server, "refresh_token")) >= lives

    wait_until(is_over, f"{lives} refreshes of tokens of {ACCESS_TTL} s", seconds=40 * ACCESS_TTL)
    assert set(seen) == {200}
