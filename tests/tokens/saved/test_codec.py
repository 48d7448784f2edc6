"""A token as bytes, and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import UnreadableRecord
from proxy.oauth.token import Principal, Refusal, Token
from proxy.secret import Secret
from proxy.tokens.saved import codec
from proxy.tokens.saved.codec import decode, encode

TEXTS = st.text()
TIMES = st.floats(allow_nan=False, allow_infinity=False)
TOKENS = st.builds(
    Token,
    access_token=st.none() | TEXTS.map(Secret),
    refresh_token=st.none() | TEXTS.map(Secret),
    server=TEXTS,
    client_id=TEXTS,
    issued_at=TIMES,
    issued_boot=TIMES,
    boot_id=TEXTS,
    lifetime=st.none() | TIMES,
    refresh_in=st.none() | TIMES,
    skew=st.none() | TIMES,
    refresh_expires_at=st.none() | TIMES,
    refresh_renews=st.none() | st.booleans(),
    login_at=st.none() | TIMES,
    observed_lifetimes=st.lists(TIMES).map(tuple),
    since_last_401=st.integers(0, 100),
    scope=TEXTS,
    seed=TEXTS,
    principal=st.none() | st.builds(Principal, TEXTS, TEXTS, TEXTS),
)


@settings(deadline=None)
@given(TOKENS)
def test_what_is_written_is_read(token):
    assert decode(encode(token)) == token


@settings(deadline=None)
@given(TOKENS, st.data())
def test_what_is_cut_short_is_refused(token, data):
    whole = encode(token)
    with pytest.raises(UnreadableRecord):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | TEXTS, st.lists).map(lambda value: json.dumps(value).encode())
)
def test_nothing_else_is_taken_for_a_token(body):
    with pytest.raises(UnreadableRecord):
        decode(body)


OLD = b"""{"server": "https://login.example", "client_id": "web", "issued_at": 1800000000.5,
    "issued_boot": 5000.25, "boot_id": "0b35", "lifetime": 3600.0, "refresh_expires_at": null,
    "scope": "api mail", "seed": "", "access_token": "AT-1", "refresh_token": "RT-1"}"""


def test_a_record_of_the_version_before_lifetimes_were_noted_is_read():
    token = Token(
        access_token=Secret("AT-1"),
        refresh_token=Secret("RT-1"),
        server="https://login.example",
        client_id="web",
        issued_at=1_800_000_000.5,
        issued_boot=5000.25,
        boot_id="0b35",
        lifetime=3600.0,
        scope="api mail",
    )
    assert decode(OLD) == token
    assert decode(encode(decode(OLD))) == token


def test_a_member_more_is_a_newer_versions_and_does_not_matter():
    token = Token(Secret("A"), None, "https://x.example", "web", 1.0, 2.0, "b")
    assert decode(json.dumps({**json.loads(encode(token)), "later": 1}).encode()) == token


def test_what_an_older_version_wrote_is_read():
    token = Token(Secret("A"), Secret("R"), "https://x.example", "web", 1.0, 2.0, "b")
    written = json.loads(encode(token))
    for name in codec._ADDED:
        del written[codec._STORED_AS.get(name, name)]
    assert decode(json.dumps(written).encode()) == token


def test_a_refusal_and_a_401_survive_a_restart():
    said = Refusal("invalid_request", False, 1_800_000_000.5, 1_800_000_300.5, 2)
    token = Token(
        Secret("A"), Secret("R"), "https://x.example", "web", 1.0, 2.0, "b", refusal=said, rejected=True
    )
    assert decode(encode(token)) == token
    decided = said._replace(decided_at=1_800_000_600.5)
    assert decode(encode(replace(token, refusal=decided))).refusal == decided


def test_who_logged_in_is_in_no_repr():
    token = Token(Secret("A"), None, "s", "web", 1.0, 2.0, "b", principal=Principal("i", "ann-7", "ann@x"))
    assert "ann" not in repr(token)
