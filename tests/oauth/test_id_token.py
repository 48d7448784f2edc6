"""The person in an id_token, and invalid id_tokens."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.oauth.id_token import MAX_ID_TOKEN, MAX_NAME, BadIdToken, has_nonce, read
from proxy.oauth.token import Principal, differ
from proxy.secret import Secret
from tests.fakes.id_tokens import id_token, part

NOW = 1_800_000_000.0
ISSUER = "https://login.example"
GOOGLE = "https://accounts.google.com"
ANN = Principal(ISSUER, "248289761001", "")


def read_it(text, *, issuer=ISSUER, client_id="web"):
    return read(Secret(text), issuer=issuer, client_id=client_id, now=NOW)


def given_by(*, iss=ISSUER, aud="web", sub=ANN.subject, **claims):
    return id_token(iss, aud, sub, **claims)


def fault_of(text, **options):
    with pytest.raises(BadIdToken) as caught:
        read_it(text, **options)
    assert caught.value.__cause__ is None
    return caught.value.error


GOOD = [  # claims; they are those of ANN
    {},
    {"exp": NOW},  # clocks differ
    {"exp": NOW - 299.5},
    {"aud": ["other", "web"]},
    {"nonce": "n", "azp": "other", "amr": ["pwd"], "groups": ["x" * 50] * 500},
]


@pytest.mark.parametrize("claims", GOOD)
def test_it_names_the_person_who_logged_in(claims):
    assert read_it(given_by(**claims)) == ANN


BAD = [  # claims (None: left out), and the error
    ({"iss": "https://evil.example"}, "id_token_issuer"),
    ({"iss": f"{ISSUER}/"}, "id_token_issuer"),
    ({"iss": "login.example"}, "id_token_issuer"),
    ({"aud": "other"}, "id_token_audience"),
    ({"aud": "webb"}, "id_token_audience"),
    ({"aud": ["other"]}, "id_token_audience"),
    ({"aud": []}, "id_token_audience"),
    ({"aud": [["web"], {"web": 1}]}, "id_token_audience"),
    ({"aud": {"web": 1}}, "id_token_audience"),
    ({"aud": None}, "id_token_audience"),
    ({"exp": NOW - 300}, "id_token_expired"),
    ({"exp": -1}, "id_token_expired"),
    ({"exp": float("nan")}, "id_token_expired"),
    ({"exp": None}, "id_token_malformed"),
    ({"exp": "4000000000"}, "id_token_malformed"),
    ({"exp": True}, "id_token_malformed"),
    ({"iss": None}, "id_token_malformed"),
    ({"iss": [ISSUER]}, "id_token_malformed"),
    ({"sub": None}, "id_token_malformed"),
    ({"sub": ""}, "id_token_malformed"),
    ({"sub": 7}, "id_token_malformed"),
    ({"sub": "x" * 256}, "id_token_malformed"),
    ({"sub": "a\nb"}, "id_token_malformed"),
    ({"sub": "\x1b[2J"}, "id_token_malformed"),
    ({"sub": "\ud800"}, "id_token_malformed"),
    ({"sub": "\u202eevil"}, "id_token_malformed"),  # a right-to-left mark
    ({"padding": "x" * MAX_ID_TOKEN}, "id_token_malformed"),
]


@pytest.mark.parametrize(("claims", "error"), BAD)
def test_it_is_refused(claims, error):
    assert fault_of(given_by(**claims)) == error


NONE = [
    "",
    "opaque",
    "a.b",
    "a.b.c",
    f"{part({})}.{part([])}.",
    f"{part({})}.{part(None)}.",
    f"{part({})}.{part(ANN.subject)}.",
    f"{given_by()}.more.parts",  # as an encrypted one has
    f"{part({})}.{part({'iss': ISSUER})[:-3]}.",
    f"{part({})}.W1tbW1tb.",
    f"{part({})}." + "W1tb" * 10_000 + ".",  # "[[[…": too deep
    f"{part({})}.//79.",
    "é.é.é",
    "\ud800.\ud800.\ud800",
]


@pytest.mark.parametrize("text", NONE)
def test_anything_but_an_id_token_is_refused(text):
    assert fault_of(text) == "id_token_malformed"


def test_without_a_configured_issuer_its_own_counts():
    assert read_it(given_by(iss="https://any.example"), issuer=None).issuer == "https://any.example"
    assert fault_of(given_by(iss=""), issuer=None) == "id_token_malformed"


def test_google_has_two_names_and_is_one():
    both = [read_it(given_by(iss=iss), issuer=GOOGLE) for iss in (GOOGLE, "accounts.google.com")]
    assert both[0] == both[1] == (GOOGLE, ANN.subject, "")
    assert fault_of(given_by(iss="accounts.google.com")) == "id_token_issuer"


NAMES = [  # claims, and the name that is shown
    ({"email": "ann@example.com", "preferred_username": "ann"}, "ann@example.com"),
    ({"email": "ann@example.com", "email_verified": True}, "ann@example.com"),
    ({"email": "ann@example.com", "email_verified": False}, ANN.subject),  # anybody can claim it
    ({"email": "ann@example.com", "email_verified": "false", "preferred_username": "ann"}, "ann"),
    ({"email": "ann@example.com", "email_verified": ["odd"]}, "ann@example.com"),
    ({"email": ["ann@example.com"], "preferred_username": 7}, ANN.subject),
    ({"email": "", "preferred_username": "ann"}, "ann"),
    ({"email": "ann\r\n\x1b[2J\u202e\ud800"}, "ann\ufffd\ufffd\ufffd[2J\ufffd\ufffd"),
    ({"email": "a" * 1000}, "a" * MAX_NAME + "…"),
    ({"preferred_username": "Žofie Ødegård"}, "Žofie Ødegård"),
]


@pytest.mark.parametrize(("claims", "shown"), NAMES)
def test_a_name_is_harmless_and_not_too_long(claims, shown):
    principal = read_it(given_by(**claims))
    assert principal.shown == shown
    assert not differ(principal, ANN), "a name tells nobody apart"


PEOPLE = st.none() | st.builds(Principal, *[st.sampled_from("ab")] * 3)


@given(PEOPLE, PEOPLE)
def test_people_differ_by_issuer_and_subject_and_an_unknown_one_differs_from_nobody(one, other):
    assert differ(one, other) == differ(other, one)
    assert not differ(one, one)
    assert differ(one, other) == bool(one and other and (one[0], one[1]) != (other[0], other[1]))


CLAIMS = st.sampled_from(["iss", "aud", "sub", "exp", "email", "email_verified", "preferred_username"])
VALUES = st.recursive(
    st.sampled_from([ISSUER, "web", NOW + 60, True])
    | st.none()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(CLAIMS, inner),
)
LIKELY = st.fixed_dictionaries(
    {"iss": st.just(ISSUER), "aud": st.just("web"), "exp": st.just(NOW), "sub": VALUES},
    optional={"email": VALUES, "email_verified": VALUES, "preferred_username": VALUES},
)


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.text()
    | st.dictionaries(CLAIMS, VALUES).map(lambda claims: f"x.{part(claims)}.y")
    | LIKELY.map(lambda claims: f"x.{part(claims)}.y")
)
@example(f"x.{part({'iss': ISSUER, 'aud': 'web', 'exp': NOW, 'sub': 's', 'email_verified': []})}.y")
def test_it_raises_nothing_else_and_returns_only_printable_names(text):
    try:
        principal = read_it(text)
    except BadIdToken:
        return
    assert principal.issuer == ISSUER
    assert 0 < len(principal.subject) <= 255
    assert len(principal.name) <= MAX_NAME + 1
    assert "".join(principal).isprintable()
    json.dumps(principal).encode("ascii")


NONCES = [  # nonce in the id_token, expected nonce, result; None: refused
    ("n-1", "n-1", True),
    (None, "n-1", False),
    ("n-1", "", False),
    (None, "", False),
    ("n-2", "n-1", None),
    ("", "n-1", None),
    ("N-1", "n-1", None),
    (["n-1"], "n-1", None),
    (7, "n-1", None),
    (True, "n-1", None),
]


@pytest.mark.parametrize(("found", "expected", "has_it"), NONCES)
def test_the_nonce_of_a_login(found, expected, has_it):
    token = Secret(given_by(nonce=found))
    if has_it is not None:
        assert has_nonce(token, expected) is has_it
        return
    with pytest.raises(BadIdToken) as caught:
        has_nonce(token, expected)
    assert caught.value.error == "id_token_nonce"
