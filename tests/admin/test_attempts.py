"""The limit on guesses of the admin key."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.attempts import BURST, EVERY, MOST_PEERS, Attempts


class Time:
    now = 1000.0

    def __call__(self):
        return self.now


@given(st.lists(st.floats(0, 20), max_size=200))
def test_in_any_time_only_so_many_wrong_keys_are_compared(pauses):
    time, compared = Time(), []
    attempts = Attempts(time)
    for pause in pauses:
        time.now += pause
        if attempts.wait("peer") == 0:
            attempts.failed("peer")
            compared.append(time.now)
    for first in compared:
        within = [at for at in compared if first <= at <= first + 60]
        assert len(within) <= BURST + 60 / EVERY


def test_one_peer_does_not_lock_out_another():
    time = Time()
    attempts = Attempts(time)
    for _ in range(BURST):
        assert attempts.wait("guesses") == 0
        attempts.failed("guesses")
    assert 0 < attempts.wait("guesses") <= EVERY
    assert attempts.wait("another") == 0
    time.now += EVERY
    assert attempts.wait("guesses") == 0


def test_the_peers_that_are_remembered_are_bounded():
    attempts = Attempts(Time())
    for number in range(MOST_PEERS + 100):
        attempts.failed(str(number))
    assert len(attempts._full_at) == MOST_PEERS
