import resource
import socket
from contextlib import ExitStack, contextmanager, suppress

from proxy.fd_limits import Descriptors


@contextmanager
def files(limit):
    """This process may have no file open whose number is `limit` or above."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def next_number():
    with socket.socket() as probe:
        return probe.fileno()


def test_callers_are_the_first_for_whom_there_is_no_room_and_a_reserve_stays():
    with files(next_number() + 400), ExitStack() as opened:
        descriptors = Descriptors()
        ends = []  # how many files were open when each of the three had no more room
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


def test_without_a_single_one_left_there_is_no_room_either():
    with ExitStack() as opened, files(next_number() + 20):
        descriptors = Descriptors()
        with suppress(OSError):
            while True:
                opened.enter_context(socket.socket())
        assert not descriptors.hold_another_upstream()


def test_it_says_so_once_for_all_who_are_turned_away(caplog):
    with files(next_number() + 1):
        descriptors = Descriptors()
        assert not any(descriptors.hold_another_caller() for _ in range(100))
        assert not descriptors.hold_another_upstream()
    (told,) = caplog.records
    assert "LimitNOFILE" in told.getMessage()
