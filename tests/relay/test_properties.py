"""Properties of the relay's parsers for any bytes; they are defined in tests/fuzz/entries.py."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz import entries

from . import strategies

often = settings(deadline=None, max_examples=500 * strategies.TIMES)


@often
@given(strategies.any_of(strategies.REQUESTS))
def test_an_accepted_request_is_exactly_one_upstream(data):
    entries.one_request(data)


@often
@given(strategies.any_of(strategies.ANSWERS))
def test_an_accepted_response_is_exactly_one_for_the_caller(data):
    entries.one_answer(data)


@often
@given(strategies.any_of(st.one_of(strategies.CHUNKED, strategies.PLAIN_CHUNKED)))
def test_a_chunked_body_is_read_as_by_a_strict_server_however_it_is_split(data):
    entries.one_chunked_body(data)


@often
@given(strategies.any_of(st.lists(strategies.FIELDS, min_size=1, max_size=12).map(b"\r\n".join)))
def test_our_fields_are_never_removed_or_duplicated_and_permitted_ones_pass(lines):
    entries.one_block(lines)


@often
@given(strategies.TARGETS)
@example(b"/up/%c0%ae%c0%ae/admin")
@example(b"/up/..%3f/x")
def test_no_target_leaves_its_route_however_it_is_decoded(target):
    entries.one_target(target)


@often
@given(strategies.any_of(strategies.LINKS))
@example(b"/v2//evil.example/")
def test_a_rewritten_link_leads_into_the_route(value):
    entries.one_link(value)
