"""Callers that vanish while they wait for a connection, and at any other moment: nothing of them remains."""

from __future__ import annotations

import pytest

from tests.black_box.conftest import Command, until
from tests.black_box.crowds import (
    PATIENCE,
    Certificates,
    Upstream,
    ask,
    crowd,
    metric,
    open_files,
    route,
    sockets,
    upstream,
    wait_until_at_rest,
)
from tests.e2e.memory import MB, reads_memory, resident
from tests.fakes.crowd import raise_file_limit

pytestmark = reads_memory

DIALS = 16  # the bound of the queue's tests: few, so that nearly all callers wait
# Callers at once, and rounds of them. `-m torture` takes ten thousand.
SIZES = [(1500, 2), pytest.param(10_000, 8, marks=pytest.mark.torture)]
WARMING = 2  # rounds; memory that the first crowds allocate once is no growth
# Bytes, from the lowest of the first half of the rounds to the lowest of the second. The allocator returns
# memory when it can: rounds of ten thousand callers with large responses leave 160 to 230 MB. A leak of a
# kilobyte for each caller is 40 MB in the long form.
MOST_GROWTH = 12 * MB
AFTER_DIALS = 2 * DIALS + 8  # sockets that are no callers': connections upstream, listeners, the event loop's
LIMITS = """
[limits]
connect = 60
dials = {dials}
connections = 12000
half_closed = 0.5
"""


@pytest.fixture(autouse=True)
def _room_for_callers() -> None:
    raise_file_limit()


@pytest.fixture
def certificates(tmp_path) -> Certificates:
    return Certificates.made_in(tmp_path)


def started(
    command: Command, credential: str, there: Upstream, certificates: Certificates, dials: int
) -> int:
    """Start the proxy, warm; returns the number of its open files without connections to the upstream."""
    more = "websocket = true\n"
    command.configure(
        LIMITS.format(dials=dials) + credential + route(there.port, ca=certificates.ca, more=more)
    )
    command.start()
    assert command.get("/up/warm")[0] == 200
    wait_until_at_rest(command)
    return files_without_upstreams(command)


def files_without_upstreams(command: Command) -> int:
    return open_files(command.pid) - int(metric(command, "upstream_connections"))


def assert_that_nothing_is_left(command: Command, files: int) -> None:
    wait_until_at_rest(command)
    until(lambda: files_without_upstreams(command) <= files, "its files are closed", PATIENCE)
    assert not metric(command, "upstream_queued")
    assert not metric(command, "internal_errors_total")
    assert "Traceback" not in command.log()


def assert_that_it_is_flat(memory: list[int]) -> None:
    """Resident bytes after each round."""
    half = len(memory) // 2
    growth = min(memory[half:]) - min(memory[:half])
    assert growth < MOST_GROWTH, f"grew by {growth / MB:.1f} MB: {[round(each / MB) for each in memory]}"


def assert_that_each_was_served_once(there: Upstream, seen: dict, callers: int) -> None:
    """Each caller got its own response or has gone, and no request came to the upstream twice."""
    assert not seen["faults"]
    assert set(seen["statuses"]) <= {"200", "101"}
    counted = there.seen
    assert not counted["repeated"]
    assert not counted["untokened"]
    assert counted["requests"] <= callers


@pytest.mark.parametrize(("callers", "rounds"), SIZES)
def test_callers_that_vanish_in_the_queue(command, credential, certificates, callers, rounds):
    with upstream(certificates.both) as there:
        files = started(command, credential("m2m"), there, certificates, DIALS)
        memory = []
        for number in range(WARMING + rounds):
            one_round(command, there, callers, number)
            assert_that_nothing_is_left(command, files)
            memory.append(resident(command.pid))
        assert_that_it_is_flat(memory[WARMING:])
        assert ask(command.port, 100, requests=3, prefix="on")["statuses"] == {"200": 300}


def one_round(command: Command, there: Upstream, callers: int, number: int) -> None:
    """All wait for connections that are not made, most of them go, and then connections can be made."""
    let_go_of_upstreams(command, there)
    there.change(accepts=False, forget=True)
    with crowd(command.port, callers, vanish=0.8, prefix=f"q{number}-", seed=number) as crowded:
        crowded.wait_until_sent()
        until(lambda: metric(command, "upstream_queued") == callers, "all wait in the queue", PATIENCE)
        assert sockets(command.pid) - callers <= AFTER_DIALS, "more dials than the bound"
        gone = crowded.vanish()
        left = callers - gone
        until(lambda: metric(command, "upstream_queued") == left, "who has gone has left it", PATIENCE)
        there.change(accepts=True)
        seen = crowded.result()
    assert_that_each_was_served_once(there, seen, callers)
    assert seen["statuses"] == {"200": left}
    assert there.seen["requests"] == left, "a request of a caller that had gone was sent"


def let_go_of_upstreams(command: Command, there: Upstream) -> None:
    """Without idle connections the next callers must wait."""
    there.change(hang_up=True)
    until(lambda: not metric(command, "upstream_connections"), "the idle connections have ended", PATIENCE)


@pytest.mark.parametrize(("callers", "rounds"), SIZES)
def test_callers_that_vanish_at_any_moment(command, credential, certificates, callers, rounds):
    """In the queue, while their request is sent, before its response, within it, and in a tunnel."""
    with upstream(certificates.both, delay=0.1) as there:
        files = started(command, credential("m2m"), there, certificates, 64)
        memory = []
        for number in range(2 * WARMING + rounds):  # warm after two crowds with large responses
            there.change(forget=True, size=200_000 if number % 2 else 500)
            kinds = {"leave": 0.5, "post": 0.3, "upgrade": 0.1}
            seen = ask(command.port, callers, within=0.2, prefix=f"a{number}-", seed=number, **kinds)
            assert_that_each_was_served_once(there, seen, callers)
            assert sum(seen["gone"].values()) > callers / 10, "hardly any has gone"
            assert_that_nothing_is_left(command, files)
            let_go_of_upstreams(command, there)  # how many are idle differs between rounds
            memory.append(resident(command.pid))
        assert_that_it_is_flat(memory[2 * WARMING :])
        assert ask(command.port, 100, requests=3, prefix="on")["statuses"] == {"200": 300}
