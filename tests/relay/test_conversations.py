"""Random conversations through a real relay; the properties are in tests/fuzz/conversations.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import conversations

from . import strategies
from .stage import Stage

often = settings(deadline=None, max_examples=200 * strategies.TIMES)


@pytest.fixture(scope="module")
def stage():
    with Stage() as made:
        yield made


@often
@given(strategies.conversations(), st.sampled_from([0, 3, 60]))
def test_an_accepted_request_is_one_upstream_and_bytes_after_a_refusal_are_none(stage, pieces, thinks):
    accepted = conversations.converse(stage, pieces, thinks=thinks)
    at_once = conversations.converse(stage, [b"".join(pieces)])
    assert accepted == at_once or None in {accepted, at_once}


@often
@given(strategies.conversations())
def test_the_rest_of_a_body_after_an_early_response_is_no_request(stage, pieces):
    conversations.converse(stage, pieces, hasty=True)


@often
@given(strategies.any_of(strategies.ANSWERS))
def test_a_response_reaches_only_its_caller_whole_or_visibly_broken(stage, data):
    conversations.one_answer_through(stage, data)
