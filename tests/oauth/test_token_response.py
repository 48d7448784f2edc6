"""What a token endpoint may respond with, and what is made of it (the table is in responses.py)."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.errors import AuthorizationServerError
from proxy.oauth.token_response import TokenResponse, parse, retry_after

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
    """What is refused has no lifetime that matters."""
    return replace(given, lifetime=None) if given.refusal else given


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_answer_comes_to(row: Row):
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
    ("Fri, 15 Jan 2027 07:59:00 GMT", None),  # that is over
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


def test_no_error_holds_a_part_of_the_answer():
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
        answer = parse(status, headers, body)
    except AuthorizationServerError:
        return
    assert 200 <= status < 300
    if answer.access_token is None:
        assert answer.refusal
        assert answer.refresh_token
    else:
        answer.access_token.reveal().encode("ascii")
    assert answer.lifetime is None or answer.lifetime > 0


@given(st.text())
def test_no_retry_after_makes_it_raise(value):
    seconds = retry_after({"Retry-After": value}, NOW)
    assert seconds is None or 0 <= seconds <= 300


# -- whatever is odd around a refresh token, it is the one that is adopted

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text()
    | st.sampled_from(["\0", "\n", "Bearer", "AT-1"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FOREIGN = st.dictionaries(
    st.text()
    | st.sampled_from(["scope", "expires_in", "expires_at", "token_type", "access_token", "id_token"])
    | st.sampled_from(["error", "ok", "data", "refresh_expires_in", "refresh_in"]),
    VALUES,
    max_size=6,
).map(lambda fields: {name: value for name, value in fields.items() if name != "refresh_token"})
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "latin-1"])
PACKINGS = st.sampled_from(
    [bytes, gzip.compress, zlib.compress, lambda data: gzip.compress(zlib.compress(data))]
)
FIELDS = st.dictionaries(
    st.sampled_from(["Content-Type", "Content-Encoding", "Date", "Age", "Retry-After"]),
    st.sampled_from(
        ["text/html", "application/json; charset=latin-1", "", "gzip", "identity", "deflate", "br", "7"]
    ),
)
REFRESH_TOKENS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_categories=["Cc", "Zs"]), min_size=1
)


@st.composite
def odd_responses(draw):
    """A refresh token, and a body that holds it among anything else."""
    token = draw(REFRESH_TOKENS)
    pairs = [*draw(FOREIGN).items(), *draw(FOREIGN).items()]  # names that stand twice, too
    pairs.insert(draw(st.integers(0, len(pairs))), ("refresh_token", token))
    ascii_only = draw(st.booleans())
    members = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=ascii_only)}" for name, value in pairs]
    text = "{" + draw(st.sampled_from([", ", ",", ",\r\n"])).join(members) + "}"
    if draw(st.booleans()):
        text = f"[{text}]"
    around = draw(st.sampled_from(["", " ", "\n", "\r\n\t"]))
    encoding = draw(ENCODINGS)
    try:
        body = (around + text + around).encode(encoding)
    except UnicodeEncodeError:
        body = (around + text.encode("ascii", "ignore").decode() + around).encode()
        token = "".join(letter for letter in token if letter.isascii())
    return token, draw(PACKINGS)(
        body
        + draw(
            st.sampled_from([b"", b"\0", b"\n\0\0"])
            if "16" not in encoding and "32" not in encoding
            else st.just(b"")
        )
    )


@settings(deadline=None, max_examples=300)
@given(odd_responses(), st.integers(200, 299), FIELDS)
def test_whatever_is_odd_around_a_refresh_token_it_is_the_one_that_is_adopted(odd, status, headers):
    token, body = odd
    assume(token)
    response = parse(status, CIMultiDict(headers), body, now=NOW)
    assert response.refresh_token is not None
    assert response.refresh_token.reveal() == token
    assert (response.access_token is None) == (response.refusal is not None)
