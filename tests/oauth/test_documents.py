"""Bytes of an authorization server as members; real responses are in responses.py."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.oauth import documents
from proxy.oauth.documents import MAX_FIELDS, MAX_SIZE, ODDITIES, UnreadableDocument, read

SOUGHT = ("a",)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def error_of(body: bytes, headers: dict[str, str] | None = None) -> str:
    with pytest.raises(UnreadableDocument) as caught:
        read(headers or {}, body, SOUGHT)
    assert caught.value.__cause__ is None
    return caught.value.error


def whole(size: int) -> bytes:
    """A document of this many bytes."""
    return b'{"a": "' + b"x" * (size - 9) + b'"}'


def test_the_limit_of_the_size_holds_packed_or_not():
    assert len(whole(MAX_SIZE)) == MAX_SIZE
    for pack in (bytes, gzip.compress, zlib.compress, lambda data: gzip.compress(gzip.compress(data))):
        assert len(read({}, pack(whole(MAX_SIZE)), SOUGHT).members["a"]) == MAX_SIZE - 9
        assert error_of(pack(whole(MAX_SIZE + 1))) == "too_large"


def test_a_bomb_in_a_bomb_is_never_unfolded():
    bomb = gzip.compress(gzip.compress(b"{" * 10**8))
    assert len(bomb) < MAX_SIZE
    assert error_of(bomb) == "too_large"


def test_the_limit_of_the_depth_holds():
    assert error_of(b'{"a":' * 10_000 + b"1" + b"}" * 10_000) == "not_json"


@pytest.mark.parametrize(("fields", "is_read"), [(MAX_FIELDS, True), (MAX_FIELDS + 1, False)])
def test_the_limit_of_a_forms_fields_holds(fields, is_read):
    body = b"&".join([b"a=1"] * fields)
    if is_read:
        assert read(FORM, body, SOUGHT).members == {"a": "1"}
    else:
        assert error_of(body, FORM) == "not_json"


REPEATED = [  # pairs of JSON, the value of the name, whether it is reported
    ('"a": 1, "a": 2', 2, True),
    ('"a": 1, "a": 1', 1, False),
    ('"a": 1, "a": null', 1, True),
    ('"a": null, "a": 1', 1, True),
    ('"a": "", "a": null', None, True),
    ('"a": 1, "a": 2, "a": 1', 1, True),
    ('"a": {"b": 1, "b": 2}', [("b", 1), ("b", 2)], False),
]


@pytest.mark.parametrize(("pairs", "value", "is_told"), REPEATED)
def test_the_last_value_of_a_repeated_name_counts_unless_it_is_empty(pairs, value, is_told):
    document = read({}, f"{{{pairs}}}".encode(), SOUGHT)
    assert document.members["a"] == value
    assert ("repeated" in document.oddities) is is_told
    assert ("a" in document.repeated) is is_told


def test_an_object_in_something_else_counts_only_with_a_name_that_is_sought():
    assert read({}, b'x {"a": 1}', SOUGHT).members == {"a": 1}
    assert error_of(b'x {"b": 1}') == "not_json"
    assert read({}, b'{"b": 1}', SOUGHT).members == {"b": 1}


@settings(deadline=None)
@given(
    st.binary() | st.text().map(str.encode) | st.binary().map(gzip.compress) | st.binary().map(zlib.compress),
    st.dictionaries(st.sampled_from(["Content-Type", "content-encoding"]), st.text(max_size=40)),
)
def test_no_bytes_make_it_raise_anything_else(body, headers):
    code, oddities = "", set()
    try:
        oddities = set(read(CIMultiDict(headers), body, SOUGHT).oddities)
    except UnreadableDocument as error:
        code = error.error
    assert code in {"", "not_json", "too_large"}
    assert oddities <= set(ODDITIES)


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=5))
def test_plain_json_is_read_as_it_is_and_nothing_is_odd(members):
    assert read({}, json.dumps(members).encode(), SOUGHT) == documents.Document(members)
