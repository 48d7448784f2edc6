"""Attacks on the health listener, by another user too: neither callers, people nor probes are starved."""

from __future__ import annotations

import http.client
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.demo.wiring import free_ports
from tests.black_box.attack import (
    CONFIG,
    FILES,
    Person,
    assert_that_data_flows,
    assert_that_the_owner_can_do_all,
    attacked,
    upstream,
)
from tests.black_box.conftest import until
from tests.fakes.raw_servers import listening

PROBES = {"/healthz": 200, "/startupz": 200, "/metrics": 200}
BEGINNINGS = {
    "silent": b"",
    "half a header": b"GET /metrics HTTP/1.1\r\nHost: loc",
    "between requests": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a body": b"POST /quitquitquit HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12",
    "scrapes that nobody reads": b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
}
ATTACKS = [
    ("half a body", ""),
    ("scrapes that nobody reads", ""),
    *(
        pytest.param(beginning, "nobody", marks=pytest.mark.privileged)
        for beginning in ("silent", "half a header", "between requests")
    ),
]


@pytest.fixture
def health(command):
    """The port of the health listener."""
    command.files = FILES
    return free_ports(0)[0]


def start(command, people, health, port):
    command.configure(CONFIG.format(issuer=people.issuer, port=port), server=f'health = "0.0.0.0:{health}"')
    command.start()


def probe(health, path):
    """As the kubelet does: a connection for each."""
    connection = http.client.HTTPConnection("127.0.0.1", health, timeout=60)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status
    finally:
        connection.close()


def assert_that_probes_get_through(health):
    for _ in range(5):
        for path, status in PROBES.items():
            assert probe(health, path) == status


def gets_through(health, path):
    """Of several tries: among a user's connections, the next attacker's takes the place of ours, too."""
    try:
        return probe(health, path) == 200
    except OSError:
        return False


@pytest.mark.parametrize(("beginning", "user"), ATTACKS)
def test_connections_to_the_health_listener_starve_nobody(command, people, health, beginning, user):
    with listening(upstream) as port:
        start(command, people, health, port)
        with attacked(health, BEGINNINGS[beginning], user):
            assert_that_data_flows(command)
            if user:
                assert_that_probes_get_through(health)
            assert_that_the_owner_can_do_all(command, Person(command))
            until(lambda: gets_through(health, "/readyz"), "a probe gets through")
            assert_that_data_flows(command)
            assert len(list(Path(f"/proc/{command.pid}/fd").iterdir())) < FILES * 3 / 4
        assert "Traceback" not in command.log()


def test_attacks_on_all_listeners_at_once_keep_no_probe_out(command, people, health):
    with listening(upstream) as port:
        start(command, people, health, port)
        with ExitStack() as attacks:
            for attacked_port in (command.port, command.admin_port, health):
                attacks.enter_context(attacked(attacked_port, b"GET /up/x HTTP/1.1\r\nHost: loc"))
            assert_that_probes_get_through(health)
            assert command.get("/healthz", admin=True) == (200, b"ok")
        assert "Traceback" not in command.log()


def test_scrapes_without_end_leave_room_for_callers_and_people(command, people, health):
    ended = threading.Event()

    def scrape():
        connection = http.client.HTTPConnection("127.0.0.1", health, timeout=60)
        while not ended.is_set():
            connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
            assert connection.getresponse().read()
        connection.close()

    with listening(upstream) as port:
        start(command, people, health, port)
        threads = [threading.Thread(target=scrape) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            assert_that_data_flows(command)
            assert_that_probes_get_through(health)
            assert_that_the_owner_can_do_all(command, Person(command))
        finally:
            ended.set()
            for thread in threads:
                thread.join(60)
        assert "Traceback" not in command.log()
