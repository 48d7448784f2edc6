"""The table of an exchange's phases: each has a peer, a timeout and an outcome."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import Limits
from proxy.relay import phases
from proxy.relay.problems import CALLER_TIMEOUT, RESPONSE_TIMEOUT

LIMITS = Limits(first_byte=60.0, body_stall=300.0, token_wait=15.0, connect=5.0)
SENDING = [  # arriving, expecting, the upstream is full -> seconds, the problem
    (False, False, False, 60.0, RESPONSE_TIMEOUT),
    (False, False, True, 60.0, RESPONSE_TIMEOUT),
    (True, False, False, 300.0, CALLER_TIMEOUT),
    (True, True, False, 60.0, RESPONSE_TIMEOUT),  # the caller waits for a 100
    (True, False, True, 300.0, RESPONSE_TIMEOUT),
]


@pytest.mark.parametrize(("arriving", "expecting", "full", "seconds", "case"), SENDING)
def test_a_request_being_sent_waits_for_one_side(arriving, expecting, full, seconds, case):
    phase = phases.while_sending(arriving=arriving, expecting=expecting, full=full)
    assert (phases.timeouts(LIMITS)[phase.number], phase.case) == (seconds, case)
    assert phase.sends
    assert not phase.begun


RELAYING = [
    (phases.RELAYING, False, phases.RELAYING, RESPONSE_TIMEOUT),
    (phases.RELAYING, True, phases.CALLER_FULL, CALLER_TIMEOUT),
    (phases.CALLER_FULL, False, phases.RELAYING, RESPONSE_TIMEOUT),
    (phases.TUNNEL, False, phases.TUNNEL, RESPONSE_TIMEOUT),
    (phases.TUNNEL, True, phases.TUNNEL_FULL, CALLER_TIMEOUT),
    (phases.TUNNEL_FULL, False, phases.TUNNEL, RESPONSE_TIMEOUT),
]


@pytest.mark.parametrize(("phase", "full", "expected", "case"), RELAYING)
def test_a_response_or_a_tunnel_waits_for_one_side(phase, full, expected, case):
    found = phases.while_relaying(phase, full=full)
    assert (found, found.case) == (expected, case)
    assert phases.timeouts(LIMITS)[found.number] == 300.0
    assert found.begun


def test_each_phase_stands_in_its_place_and_ends_but_the_last():
    assert [phase.number for phase in phases.TABLE] == list(range(len(phases.TABLE)))
    seconds = phases.timeouts(LIMITS)
    assert all(0 <= each < float("inf") for each in seconds[:-1])
    assert phases.TABLE[-1] is phases.OVER
    assert seconds[-1] == float("inf")


@given(st.floats(0.1, 1000), st.floats(0.1, 1000))
def test_a_phase_with_an_owner_has_slack_beyond_its_limit(token_wait, connect):
    seconds = phases.timeouts(Limits(token_wait=token_wait, connect=connect))
    assert seconds[phases.TOKEN.number] > token_wait
    assert seconds[phases.HELD.number] > token_wait
    assert seconds[phases.CONNECTING.number] > connect
