"""Attacks on the admin listener of a server with few open files, by another user too: nobody is starved."""

from __future__ import annotations

import socket
import time
import urllib.error
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.black_box.attack import (
    BEGINNINGS,
    CONFIG,
    CONNECTIONS,
    FILES,
    Person,
    assert_that_data_flows,
    assert_that_the_owner_can_do_all,
    attacked,
    cpu_seconds,
    upstream,
)
from tests.black_box.conftest import until
from tests.fakes.raw_servers import listening

ATTACKS = [(beginning, "") for beginning in BEGINNINGS] + [
    pytest.param(beginning, "nobody", marks=pytest.mark.privileged)
    for beginning in ("silent", "between requests")
]


@pytest.mark.parametrize(("beginning", "user"), ATTACKS)
def test_connections_to_the_admin_listener_starve_nobody(command, people, beginning, user):
    command.files = FILES
    with listening(upstream) as port:
        command.configure(CONFIG.format(issuer=people.issuer, port=port))
        command.start()
        with attacked(command.admin_port, BEGINNINGS[beginning], user):
            assert_that_data_flows(command)
            assert_that_the_owner_can_do_all(command, Person(command))
            assert_that_data_flows(command)
            assert len(list(Path(f"/proc/{command.pid}/fd").iterdir())) < FILES * 3 / 4
        assert "Traceback" not in command.log()


def test_idle_admin_connections_cost_no_cpu(command, people):
    command.files = FILES
    command.configure(CONFIG.format(issuer=people.issuer, port=1))
    command.start()
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", command.admin_port)))
        assert command.get("/healthz", admin=True) == (200, b"ok")
        used, began = cpu_seconds(command.pid), time.monotonic()
        time.sleep(2)
        assert cpu_seconds(command.pid) - used < (time.monotonic() - began) / 2
    assert "Traceback" not in command.log()


def test_data_connections_lock_nobody_out_of_the_admin_listener(command, people):
    command.files = FILES
    with listening(upstream) as port:
        command.configure(CONFIG.format(issuer=people.issuer, port=port))
        command.start()
        with attacked(command.port, b"GET /up/x HTTP/1.1\r\nHost: loc"):
            for _ in range(3):
                assert command.get("/healthz", admin=True) == (200, b"ok")
                try:
                    assert "Logged in" in Person(command).log_in()
                except urllib.error.HTTPError as error:
                    raise AssertionError(command.log()[-6000:]) from error
        until(lambda: command.get("/up/x")[0] == 200, "callers are served again")
        assert "Traceback" not in command.log()
