import resource
import socket
from contextlib import ExitStack, contextmanager, suppress

import pytest

from proxy.fd_limits import Descriptors


@contextmanager
def files(limit):
    """Limit the numbers of this process's open files to below `limit`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def next_number():
    with socket.socket() as probe:
        return probe.fileno()


def test_callers_are_refused_first_and_a_reserve_remains():
    with files(next_number() + 400), ExitStack() as opened:
        descriptors = Descriptors()
        ends = []  # the number of open files at the first refusal of each of the three
        for count in range(400):
            room = [
                descriptors.hold_another_caller(),
                descriptors.refuse_another_caller(),
                descriptors.hold_another_upstream(),
            ]
            assert room == sorted(room), "who comes later in the list has room for longer"
            ends += [count] * (room.count(False) - len(ends))
            if not any(room):
                break
            opened.enter_context(socket.socket())
        assert len(ends) == 3
        assert 150 < ends[0] < ends[1] < ends[2] < 400 - 60


def test_without_any_free_file_everything_is_refused():
    with ExitStack() as opened, files(next_number() + 20):
        descriptors = Descriptors()
        with suppress(OSError):
            while True:
                opened.enter_context(socket.socket())
        assert not descriptors.hold_another_upstream()


def test_the_number_of_an_accepted_connection_tells_the_same():
    """As a file that is opened for the purpose: both have the lowest number that is free."""
    with files(next_number() + 400), ExitStack() as opened:
        descriptors = Descriptors(admin=8, health=4)
        descriptors.admin.open, descriptors.health.open = 5, 2
        decisions = []
        for _ in range(399):
            asked = descriptors.hold_another_caller(), descriptors.refuse_another_caller()
            try:
                number = opened.enter_context(socket.socket()).fileno()
            except OSError:
                break
            assert (descriptors.hold_caller(number), descriptors.refuse_caller(number)) == asked
            decisions.append(asked)
        assert set(decisions) == {(True, True), (False, True), (False, False)}


def test_refusals_are_logged_once(caplog):
    with files(next_number() + 2):
        descriptors = Descriptors()
        assert not any(descriptors.hold_another_caller() for _ in range(100))
        assert not descriptors.hold_another_upstream()
        assert not descriptors.hold_caller(next_number())
    (told,) = caplog.records
    assert "LimitNOFILE" in told.getMessage()


@pytest.mark.parametrize(
    ("limit", "wanted", "most"),
    [
        (128, (64, 0), (16, 0)),
        (256, (64, 0), (32, 0)),
        (1024, (64, 0), (64, 0)),
        (20_000, (64, 0), (64, 0)),
        (256, (4, 0), (4, 0)),
        (16, (64, 32), (2, 1)),
        (256, (64, 32), (32, 12)),
        (256, (4, 2), (4, 2)),
        (20_000, (64, 32), (64, 32)),
        (20_000, (500, 300), (500, 300)),
    ],
)
def test_if_files_are_few_our_own_listeners_have_a_part_of_the_reserve(limit, wanted, most, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    descriptors = Descriptors(*wanted)
    assert (descriptors.admin.most, descriptors.health.most) == most


def test_connections_of_our_own_listeners_take_nothing_from_callers():
    with files(next_number() + 400), ExitStack() as opened:
        descriptors = Descriptors(admin=64, health=32)
        counts = []
        shares = (descriptors.admin, descriptors.health)
        most = [share.most for share in shares]
        for held in ([0, 0], most):
            with ExitStack() as callers:
                for share, count in zip(shares, held, strict=True):
                    share.open = count
                    for _ in range(count):
                        opened.enter_context(socket.socket())
                while descriptors.hold_another_caller():
                    callers.enter_context(socket.socket())
                counts.append(next_number())
                while descriptors.hold_another_upstream():
                    callers.enter_context(socket.socket())
                free = 0
                with suppress(OSError):
                    while True:
                        callers.enter_context(socket.socket())
                        free += 1
                assert free >= sum(most) * 0.4, "for the store and authorization servers"
        assert counts[1] == counts[0] + sum(most)
