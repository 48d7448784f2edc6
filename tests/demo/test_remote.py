"""The server in a separate process: `python -m proxy.demo` and its interface for tests."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import requests

from proxy.clock import SystemClock
from proxy.demo.faults import NAMED, Fault, status
from proxy.demo.journal import fingerprint
from proxy.demo.remote import ControlRefused, RemoteServer, started

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = ("--grace", "5", "--lifetime", "30", "--client", "web:s3cret", "--client", "cli")


@pytest.fixture(scope="module")
def process() -> Iterator[RemoteServer]:
    with started(*OPTIONS) as server:
        yield server


@pytest.fixture
def server(process: RemoteServer) -> Iterator[RemoteServer]:
    yield process
    process.clear_faults()
    process.settings(grace=5.0, access_token_lifetime=30, rotation=True)


def refresh(server: RemoteServer, refresh_token: str) -> requests.Response:
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return requests.post(
        f"{server.issuer}/token", data=form, auth=("web", "s3cret"), timeout=10, allow_redirects=False
    )


def call_api(server: RemoteServer, access_token: str) -> int:
    headers = {"Authorization": f"Bearer {access_token}"}
    return requests.get(f"{server.api}/orders", headers=headers, timeout=10).status_code


def test_its_tokens_work_at_its_api_and_its_journal_is_complete(server: RemoteServer) -> None:
    before = len(server.events())
    first = server.issue("web", "alice")
    began = SystemClock().boot()
    second = refresh(server, first["refresh_token"]).json()
    assert second["expires_in"] == 30
    assert call_api(server, second["access_token"]) == 200
    asked, used = server.events(before)
    assert asked == server.token_requests[-1]
    assert used == server.api_requests[-1]
    assert (asked.outcome, asked.generation, asked.subject) == ("granted", 1, "alice")
    assert began <= asked.arrived_at <= asked.answered_at <= used.at <= SystemClock().boot()
    assert used.access_token == asked.issued_access_token == fingerprint(second["access_token"])
    (record,) = [each for each in server.token_records() if each.fingerprint == used.access_token]
    assert record.good_at(used.at)
    assert (record.family, record.generation) == (used.family, 2)


def test_faults_are_scripted_by_name_or_as_data_and_with_filters(server: RemoteServer) -> None:
    alice, bob = (server.issue("web", subject)["refresh_token"] for subject in ("alice", "bob"))
    server.script("outage", times=None, subject="bob")
    server.script(status(418), Fault(change={"expires_in": "soon"}))
    assert [refresh(server, token).status_code for token in (bob, alice, bob)] == [503, 418, 503]
    assert refresh(server, alice).json()["expires_in"] == "soon"
    server.clear_faults()
    assert refresh(server, bob).status_code == 200
    assert [request.fault for request in server.token_requests[-5:]] == ["outage", "", "outage", "", ""]


def test_every_named_fault_can_be_sent_as_data(server: RemoteServer) -> None:
    server.script(*NAMED.values())


def test_a_wait_that_is_no_number_cannot_be_sent() -> None:
    async def wait() -> None:
        pass

    nobody = RemoteServer({"issuer": "", "api": "", "control": "", "pid": 0})
    with pytest.raises(TypeError, match="another process"):
        nobody.script(Fault(wait_after=wait))


def test_a_fault_may_apply_for_a_time(server: RemoteServer) -> None:
    token = server.issue("web", "alice")["refresh_token"]
    server.script("outage", times=None, after=1000)
    server.script("html", times=None, lasting=0.3)
    assert refresh(server, token).headers["Content-Type"] == "text/html"
    time.sleep(0.3)
    assert refresh(server, token).headers["Content-Type"] == "application/json"


def test_grace_lifetime_and_rotation_can_be_set_while_it_runs(server: RemoteServer) -> None:
    told = server.settings(grace=0, access_token_lifetime=7, rotation=False)
    assert (told["grace"], told["access_token_lifetime"], told["rotation"]) == (0, 7, False)
    first = server.issue("web", "alice")
    second = refresh(server, first["refresh_token"]).json()
    assert second["expires_in"] == 7
    assert "refresh_token" not in second


def test_tokens_and_families_are_revoked_on_demand(server: RemoteServer) -> None:
    revoked = server.families_revoked
    first = server.issue("web", "alice")
    server.revoke(first["access_token"])
    assert call_api(server, first["access_token"]) == 401
    assert server.api_requests[-1].verdict == "revoked"
    assert server.families_revoked == revoked
    server.revoke_family(first["access_token"])
    assert refresh(server, first["refresh_token"]).json()["error"] == "invalid_grant"
    assert server.families_revoked == revoked + 1
    assert server.revocations[-1].reason == "server"
    other = server.issue("web", "alice")
    server.revoke_family(other["access_token"], after=1000)
    assert call_api(server, other["access_token"]) == 200


def test_a_public_client_shows_no_secret(server: RemoteServer) -> None:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": server.issue("cli", "alice")["refresh_token"],
        "client_id": "cli",
    }
    assert requests.post(f"{server.issuer}/token", data=form, timeout=10).status_code == 200


def test_a_refused_call_has_a_reason(server: RemoteServer) -> None:
    with pytest.raises(ControlRefused, match=r"no fault 'outrage'.*outage"):
        server.script("outrage")
    with pytest.raises(ControlRefused, match="client_id"):
        server.issue("nobody", "alice")
    with pytest.raises(ControlRefused, match="grace"):
        server.settings(grace=-1)


def test_after_the_block_the_process_is_gone() -> None:
    with started() as server:
        assert call_api(server, "x") == 401
    with pytest.raises(requests.ConnectionError):
        call_api(server, "x")


def test_a_failed_start_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="did not start"), started("--lifetime", "0"):
        pass
    assert "--lifetime" in capfd.readouterr().err


def test_it_stops_with_its_parent() -> None:
    """Even if that was killed: the kernel closes its end of the pipe."""
    command = [sys.executable, "-m", "proxy.demo", "--until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"ready" in process.stdout.readline()
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_its_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy.demo", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--port", "--control", "--grace", "--lifetime", "--no-rotation", "--client"):
        assert option in done.stdout
