"""The query of the listing: what is read from a URL, and what is refused with which sentence."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.observe.query import LIMIT, BadQueryError, Cursor, Query

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
ACCOUNTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", fullmatch=True)


def test_without_parameters_it_is_everything():
    assert Query.of({}) == Query.of({"q": "", "state": "", "after": "", "limit": ""}) == Query()
    assert Query.of({"again": "x", "theme": "dark"}) == Query(), "other parameters are none of its business"


def test_each_parameter_is_read():
    fields = {"q": "Ann@", "state": "attention", "credential": "crm", "after": "crm/bob", "limit": "20"}
    assert Query.of(fields) == Query("Ann@", "attention", "crm", Cursor(True, "crm", "bob"), 20)
    assert Query.of({}, limit=50).limit == 50
    assert Query.of({"limit": "7"}, limit=50).limit == 7


@given(st.booleans(), NAMES, ACCOUNTS)
def test_a_cursor_is_read_as_it_was_written(is_rest, credential, account):
    cursor = Cursor(is_rest, credential, account)
    assert Query.of({"after": str(cursor)}).after == cursor


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"state": "broken"},
            "state: expected one of valid, stale, expired, login_required, misconfigured, ",
        ),
        ({"state": "Valid"}, "state: expected one of"),
        ({"limit": "0"}, "limit: expected a number from 1 to 500"),
        ({"limit": "501"}, "limit: expected a number from 1 to 500"),
        ({"limit": "-1"}, "limit: "),
        ({"limit": "1e2"}, "limit: "),
        ({"limit": "٣"}, "limit: "),
        ({"limit": "9" * 5000}, "limit: "),
        ({"after": "crm"}, "after: "),
        ({"after": "crm/"}, "after: "),
        ({"after": "rest:crm/ann"}, "after: "),
        ({"after": "crm/ann\n"}, "after: "),
        ({"after": "\0/\0"}, "after: "),
        ({"q": "x" * 201}, "q: expected a part of"),
        ({"q": "a\0b"}, "q: "),
        ({"q": "a\nb"}, "q: "),
    ],
)
def test_a_value_that_can_not_be_is_refused_by_the_name_of_its_parameter(fields, sentence):
    with pytest.raises(BadQueryError) as caught:
        Query.of(fields)
    assert str(caught.value).startswith(sentence)


@given(st.dictionaries(st.sampled_from(["q", "state", "credential", "after", "limit"]), st.text()))
def test_anything_is_either_read_or_refused(fields):
    with suppress(BadQueryError):
        assert 1 <= Query.of(fields).limit <= LIMIT
