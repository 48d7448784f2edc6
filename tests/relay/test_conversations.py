"""Random conversations through a real relay; its promises stand in tests/fuzz/conversations.py."""

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
def test_what_is_accepted_is_one_request_upstream_and_what_follows_a_refusal_is_none(stage, pieces, thinks):
    accepted = conversations.converse(stage, pieces, thinks=thinks)
    at_once = conversations.converse(stage, [b"".join(pieces)])
    assert accepted == at_once or None in {accepted, at_once}


@often
@given(strategies.conversations())
def test_nor_is_what_is_left_of_a_body_that_was_answered_early(stage, pieces):
    conversations.converse(stage, pieces, hasty=True)


@often
@given(strategies.any_of(strategies.ANSWERS))
def test_an_answer_reaches_the_caller_whole_or_visibly_broken_and_nobody_else(stage, data):
    conversations.one_answer_through(stage, data)
