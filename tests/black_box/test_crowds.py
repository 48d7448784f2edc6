"""A thousand callers at once of upstreams that are slow, or far away: `measure_crowds` has the figures."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.demo.wiring import free_ports
from tests.black_box import measure_crowds
from tests.black_box.conftest import Command, until
from tests.black_box.crowds import PATIENCE, UNBOUNDED, Certificates, ask, crowd, relay, route, upstream
from tests.fakes.crowd import raise_file_limit

CALLERS = 1000
REQUESTS = 5  # of each caller
SPARE = 200  # connections: dials that a connection given back has overtaken; two full sets of them and more
NEAR = 1.5  # times as long as with unbounded dials, on a machine that does other things as well
ROUNDS = 4  # of which one must be undisturbed


@pytest.fixture(autouse=True)
def _room_for_callers() -> None:
    raise_file_limit()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.made_in(tmp_path)


def test_a_slow_upstream_has_the_requests_of_all_callers_at_once(command, credential, certificates):
    """There are as many connections as requests at once, and each is used again."""
    with upstream(certificates.both, holds=True, delay=0.2) as there:
        command.configure(
            "[limits]\nconnect = 60\n" + credential("m2m") + route(there.port, ca=certificates.ca)
        )
        command.start()
        with crowd(command.port, CALLERS, requests=REQUESTS) as callers:
            until(lambda: there.seen["in_flight"] == CALLERS, "all are under way at once", PATIENCE)
            there.change(holds=False)
            seen = callers.result()
        counted = there.seen
        assert seen["statuses"] == {"200": CALLERS * REQUESTS}
        assert not seen["faults"]
        assert counted["requests"] == CALLERS * REQUESTS
        assert not counted["repeated"]
        assert not counted["untokened"]
        assert counted["opened"] <= CALLERS + SPARE


def test_bounded_dials_are_no_worse_than_unbounded_ones_at_an_upstream_far_away(
    tmp_path, credential, certificates
):
    """With 100 ms of round trip a handshake takes 200 ms and more. Both in one run, in turn."""
    ratios = []
    with ExitStack() as stack:
        there = stack.enter_context(upstream(certificates.both))
        far = stack.enter_context(relay(there.port, 0.05))
        proxies = []
        for name, more in (("bounded", ""), ("unbounded", f"dials = {measure_crowds.MANY}\n")):
            (tmp_path / name).mkdir()
            made = Command(tmp_path / name, *free_ports(0, 0))
            if more:
                made.program = UNBOUNDED
            made.configure(
                f"[limits]\nconnect = 60\npool = 1\n{more}"
                + credential("m2m")
                + route(far, ca=certificates.ca)
            )
            proxies.append(made)
        for number in range(ROUNDS):
            times = []
            for made in proxies:
                made.start()
                stack.callback(made.stop)
                seen = ask(made.port, CALLERS, requests=REQUESTS, prefix=f"r{number}-", at_once=CALLERS)
                made.stop()
                assert seen["statuses"] == {"200": CALLERS * REQUESTS}
                assert not seen["faults"]
                times.append(seen["seconds"])
                there.change(forget=True)
            ratios.append(times[0] / times[1])
            if ratios[-1] <= NEAR:
                return
    pytest.fail(f"each time longer than unbounded, by these factors: {ratios}")


@pytest.mark.torture
def test_within_two_seconds_a_slow_upstream_serves_most_of_what_is_possible(capsys):
    assert measure_crowds.main(["slow", "--rounds", "3"]) == 0, capsys.readouterr().out
