"""Responses of token endpoints, and their results (the table is in responses.py)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.errors import AuthorizationServerError
from proxy.oauth.token_response import TokenResponse, parse, retry_after

from .odd import FIELDS, odd_responses
from .responses import FORM, GOOD, GZIP, ROWS, Given, Row

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


def given_in(response: TokenResponse) -> Given:
    return Given(
        response.access_token and response.access_token.reveal(),
        response.lifetime,
        response.refresh_token and response.refresh_token.reveal(),
        response.refresh_lifetime,
        response.scope,
        " ".join(response.oddities),
        response.refusal.error if response.refusal else "",
    )


def comparable(given: Given) -> Given:
    """The lifetime of a refused token does not matter."""
    return replace(given, lifetime=None) if given.refusal else given


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_response_has_its_result(row: Row):
    if isinstance(row.comes_to, Given):
        assert comparable(given_in(parse(row.status, row.fields, row.raw))) == comparable(row.comes_to)
        return
    with pytest.raises(AuthorizationServerError) as caught:
        parse(row.status, row.fields, row.raw)
    assert (caught.value.outcome, caught.value.error) == row.comes_to


RETRY_AFTER = [
    ("7", 7.0),
    (" 7 ", 7.0),
    ("0", 0.0),
    ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
    ("Fri, 15 Jan 2027 08:00:30", 30.0),
    ("Fri, 15 Jan 2027 07:59:00 GMT", None),  # in the past
    ("99999", 300.0),
    ("9" * 400, 300.0),
    ("Fri, 15 Jan 2038 08:00:00 GMT", 300.0),
    ("junk", None),
    ("-1", None),
    ("1.5", None),
    ("", None),
    ("Fri, 99 Jan 2027 08:00:00 GMT", None),
]


@pytest.mark.parametrize(("value", "seconds"), RETRY_AFTER)
def test_retry_after(value, seconds):
    assert retry_after({"Retry-After": value}, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "body"), [(429, b""), (503, b""), (400, b'{"error": "slow_down"}'), (403, b"")]
)
def test_an_error_that_may_pass_carries_the_pause_that_was_asked_for(status, body):
    with pytest.raises(AuthorizationServerError) as caught:
        parse(status, CIMultiDict({"retry-after": "7"}), body, now=NOW)
    assert (caught.value.outcome, caught.value.retry_after) == ("transient", 7.0)


def test_no_error_contains_a_part_of_the_response():
    for row in ROWS:
        if not isinstance(row.comes_to, Given):
            with pytest.raises(AuthorizationServerError) as caught:
                parse(row.status, row.fields, row.raw)
            assert caught.value.__cause__ is None
            assert "AT-" not in repr(caught.value)


MEMBERS = st.sampled_from([*GOOD, "refresh_token", "scope", "error", "refresh_expires_in"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(MEMBERS, inner),
)
BODIES = (
    st.binary()
    | st.dictionaries(MEMBERS, JSON).map(lambda fields: json.dumps(fields).encode())
    | st.text().map(str.encode)
)


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.integers(100, 999),
    st.sampled_from([{}, GZIP, FORM, {"Content-Encoding": "zstd"}, {"Retry-After": "x"}]),
    BODIES,
)
@example(200, {}, b'{"access_token": "a", "token_type": "bearer", "expires_in": "1_000"}')
def test_no_bytes_make_it_raise_anything_else(status, headers, body):
    try:
        response = parse(status, headers, body)
    except AuthorizationServerError:
        return
    assert 200 <= status < 300
    if response.access_token is None:
        assert response.refusal
        assert response.refresh_token
    else:
        response.access_token.reveal().encode("ascii")
    assert response.lifetime is None or response.lifetime > 0


@given(st.text())
def test_no_retry_after_makes_it_raise(value):
    seconds = retry_after({"Retry-After": value}, NOW)
    assert seconds is None or 0 <= seconds <= 300


# -- whatever is odd around a refresh token, it is the one that is adopted


@settings(deadline=None, max_examples=300)
@given(odd_responses(), st.integers(200, 299), FIELDS)
def test_a_refresh_token_is_adopted_from_any_odd_response(odd, status, headers):
    token, body = odd
    assume(token)
    response = parse(status, CIMultiDict(headers), body, now=NOW)
    assert response.refresh_token is not None
    assert response.refresh_token.reveal() == token
    assert (response.access_token is None) == (response.refusal is not None)
