"""The circuit breaker's transitions, for any sequence of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import AuthorizationServerError
from proxy.store.base import AccountId
from proxy.tokens.refresh import backoff
from proxy.tokens.refresh.breaker import (
    Candidate,
    Closed,
    HalfOpen,
    Open,
    Pauses,
    ProbeStarts,
    ServerDown,
    ServerUp,
    TryNow,
    TurnEnds,
    next_state,
)

KEYS = [AccountId("crm", name) for name in "abc"]
NOW = st.floats(0, 1000)
KEY = st.sampled_from(KEYS)
ERRORS = [
    AuthorizationServerError("transient", "http_503", status=503),
    AuthorizationServerError("transient", "unreachable", reached=False),
    AuthorizationServerError("transient", "http_429", status=429, retry_after=60.0),
]
CANDIDATES = st.builds(Candidate, st.integers(0, 3), st.just(0.0), KEY)
DOWN = st.builds(ServerDown, CANDIDATES, st.sampled_from(ERRORS), NOW, st.floats(0, 1, exclude_max=True))
EVENTS = st.one_of(
    st.just(ServerUp()),
    DOWN,
    st.builds(ProbeStarts, KEY),
    st.builds(TurnEnds, KEY, NOW),
    st.builds(TryNow, KEY),
)


@given(st.lists(EVENTS, max_size=40))
def test_only_transitions_of_the_table_happen(events):
    state = Closed()
    for event in events:
        before, state = state, next_state(state, event)
        match before, state:
            case (Closed(), Open()) | (HalfOpen(), Open(_, _, Pauses())):
                assert isinstance(event, ServerDown | TurnEnds)
            case Open(), HalfOpen(probe):
                assert event == ProbeStarts(probe)
            case ((Open() | HalfOpen()), Closed()):
                assert isinstance(event, ServerUp)
            case _:
                assert type(before) is type(state)
        if isinstance(state, Open):
            assert state.fresh_until <= state.until
            assert 1 <= state.pauses.of_fresh <= state.pauses.of_all


@given(st.lists(DOWN, max_size=40))
def test_a_success_forgets_everything(events):
    state = Closed()
    for event in events:
        state = next_state(state, event)
    assert next_state(state, ServerUp()) == Closed()


@given(
    st.lists(
        st.sampled_from(ERRORS[:1]).flatmap(lambda error: st.tuples(CANDIDATES, st.just(error))), max_size=20
    )
)
def test_an_account_in_trouble_is_no_witness(failed):
    state = Closed()
    for candidate, error in failed:
        state = next_state(state, ServerDown(candidate, error, 0.0))
    witnesses = {candidate.key for candidate, _ in failed if not candidate.is_troubled}
    assert isinstance(state, Closed) == (len(witnesses) < 2)


def test_pauses_grow_to_half_a_minute_and_not_beyond():
    state, now, lengths = Open(0.0, 0.0, Pauses()), 0.0, []
    for _ in range(8):
        state = next_state(state, ProbeStarts(KEYS[0]))
        state = next_state(state, ServerDown(Candidate(0, 0.0, KEYS[0]), ERRORS[0], now, chance=0.9999))
        lengths.append(round(state.until - now))
        now = state.until
    assert lengths == [2, 4, 8, 16, 30, 30, 30, 30]
    assert lengths[-1] == backoff.BACKOFF_LAST


def test_a_failure_sent_before_it_opened_only_extends_the_pause_by_its_retry_after():
    state = Open(10.0, 5.0, Pauses())
    other = Candidate(0, 0.0, KEYS[1])
    assert next_state(state, ServerDown(other, ERRORS[0], 4.0)) == state
    assert next_state(state, ServerDown(other, ERRORS[2], 4.0)) == Open(64.0, 64.0, Pauses())
    probing = HalfOpen(KEYS[0], Pauses())
    assert next_state(probing, ServerDown(other, ERRORS[0], 4.0)) is probing
    assert next_state(probing, TurnEnds(KEYS[1], 4.0)) is probing
