"""An upstream that answers no dial: its callers are refused in time, and others served.

Two kinds: the kernel there accepts connections and nothing follows, or it drops each SYN.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.black_box.accounts import ACCOUNT, ACCOUNT_OF_ROUTE, CREDENTIAL, with_accounts
from tests.black_box.conftest import until
from tests.black_box.crowds import (
    PATIENCE,
    Certificates,
    ask,
    crowd,
    metric,
    open_files,
    route,
    upstream,
    wait_until_at_rest,
)
from tests.fakes.crowd import raise_file_limit

CALLERS = 1000
OTHERS = 30  # callers of another route, or account, all the time
CONNECT = 5  # seconds; limits.connect
# Seconds until the last refusal. With 64 dials at once and no deadline for the queue it would be 78.
LAST_REFUSAL = 30
OTHERS_SECONDS = 8  # longer than all refusals take on a quiet machine
MORE = 20  # times as long may a caller of another route wait, on a machine that refuses a thousand meanwhile


@pytest.fixture(autouse=True)
def _room_for_callers() -> None:
    raise_file_limit()


@pytest.fixture
def certificates(tmp_path) -> Certificates:
    return Certificates.made_in(tmp_path)


@contextlib.contextmanager
def handshake_without_response(certificates: Certificates) -> Iterator[int]:
    with upstream(certificates.both, accepts=False) as hole:
        yield hole.port


@contextlib.contextmanager
def syn_without_response(certificates: Certificates) -> Iterator[int]:
    """Nobody accepts, and the kernel's queue is full: it drops what else comes."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = opened.enter_context(socket.socket())
            filler.settimeout(1)
            with contextlib.suppress(TimeoutError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


def assert_all_refused(refused: dict) -> None:
    assert refused["statuses"] == {"504": CALLERS}
    assert refused["problems"] == {"upstream-timeout": CALLERS}
    assert refused["errors"] == {"connection_timeout": CALLERS}
    assert not refused["faults"]
    assert refused["longest_refusal"] < LAST_REFUSAL


@pytest.mark.parametrize("hole", [handshake_without_response, syn_without_response])
def test_a_black_hole_refuses_all_in_time_and_harms_no_other_route(command, credential, certificates, hole):
    with upstream(certificates.both) as good, hole(certificates) as port:
        routes = route(good.port, ca=certificates.ca) + route(port, "hole", ca=certificates.ca)
        command.configure(f"[limits]\nconnect = {CONNECT}\n" + credential("m2m") + routes)
        command.start()
        assert command.get("/up/warm")[0] == 200
        files = open_files(command.pid)
        before = ask(command.port, OTHERS, seconds=OTHERS_SECONDS / 4, prefix="before")
        with crowd(command.port, CALLERS, path="/hole", prefix="hole") as lost:
            beside = ask(command.port, OTHERS, seconds=OTHERS_SECONDS, prefix="beside")
            refused = lost.result()
        assert_all_refused(refused)
        for seen in (before, beside):
            assert set(seen["statuses"]) == {"200"}
            assert not seen["faults"]
        assert beside["p99"] < max(before["p99"] * MORE, CONNECT / 2)
        assert not good.seen["repeated"]
        assert metric(command, "upstream_errors_total", route="hole") == CALLERS
        assert metric(command, "upstream_errors_total", route="up") == 0
        for name in ("up", "hole"):
            wait_until_at_rest(command, name)
        idle = OTHERS + 64
        until(lambda: open_files(command.pid) <= files + idle, "its files are closed", PATIENCE)


def test_after_the_black_hole_its_route_serves_at_once(command, credential, certificates):
    """What waited there has gone: the first caller after it needs one dial."""
    with upstream(certificates.both, accepts=False) as hole:
        command.configure(
            "[limits]\nconnect = 2\n" + credential("m2m") + route(hole.port, "hole", ca=certificates.ca)
        )
        command.start()
        refused = ask(command.port, CALLERS, path="/hole", prefix="lost")
        assert_all_refused(refused)
        hole.change(accepts=True)
        assert command.get("/hole/x")[0] == 200
        found = ask(command.port, CALLERS, path="/hole", prefix="found", requests=2)
        assert found["statuses"] == {"200": CALLERS * 2}
        counted = hole.seen
        assert not counted["repeated"]
        assert counted["requests"] == CALLERS * 2 + 1, "a request that was refused came later"


def test_accounts_with_connections_are_served_beside_one_whose_dials_hang(command, certificates):
    """Each account has a pool of its own: the queue of one is not that of another."""
    with upstream(certificates.both, delay=0.01) as there:
        up = route(there.port, ca=certificates.ca, credential=CREDENTIAL, more=ACCOUNT_OF_ROUTE)
        with_accounts(command, 10, f"connect = {CONNECT}\n", up)
        command.start()
        good = {"account": ACCOUNT, "accounts": 9}
        with crowd(command.port, 9 * 4, seconds=OTHERS_SECONDS + 4, prefix="good", **good) as served:
            served.wait_until_sent()
            until(lambda: there.seen["requests"] > 9 * 4 * 3, "all have their connections", PATIENCE)
            there.change(accepts=False)
            lost = {"account": ACCOUNT, "account_from": 9}  # it had no request so far
            assert_all_refused(ask(command.port, CALLERS, prefix="lost", **lost))
            seen = served.result()
        assert set(seen["statuses"]) == {"200"}
        assert not seen["faults"]
        assert not there.seen["repeated"]
        assert not metric(command, "upstream_queued")
