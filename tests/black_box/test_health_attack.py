"""Attacks on the health listener, by another user too: neither callers, people nor probes are starved."""

from __future__ import annotations

import http.client
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
from tests.fakes.raw_servers import listening

pytestmark = pytest.mark.privileged  # another user

PROBES = {"/healthz": 200, "/startupz": 200, "/metrics": 200}


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


def test_silent_connections_to_the_health_listener_starve_nobody(command, people, health):
    with listening(upstream) as port:
        start(command, people, health, port)
        with attacked(health, b"", "nobody"):
            assert_that_data_flows(command)
            assert_that_probes_get_through(health)
            assert_that_the_owner_can_do_all(command, Person(command))
            assert probe(health, "/readyz") == 200
            assert len(list(Path(f"/proc/{command.pid}/fd").iterdir())) < FILES * 3 / 4
        assert "Traceback" not in command.log()


def test_attacks_on_all_listeners_at_once_keep_no_probe_out(command, people, health):
    with listening(upstream) as port:
        start(command, people, health, port)
        with ExitStack() as attacks:
            for attacked_port in (command.port, command.admin_port, health):
                attacks.enter_context(attacked(attacked_port, b"GET /up/x HTTP/1.1\r\nHost: loc", "nobody"))
            assert_that_probes_get_through(health)
            assert command.get("/healthz", admin=True) == (200, b"ok")
        assert "Traceback" not in command.log()


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
def test_requests_without_end_keep_nobody_out(command, people, health, path):
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with listening(upstream) as port:
        start(command, people, health, port)
        with attacked(health, request, "nobody", again=request):
            assert_that_data_flows(command)
            assert_that_probes_get_through(health)
            assert_that_the_owner_can_do_all(command, Person(command))
        assert "Traceback" not in command.log()
