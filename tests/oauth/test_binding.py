"""The binding of tokens, and the changes that it survives."""

from __future__ import annotations

import pytest

from proxy.oauth.binding import bind, is_bound, server_of
from proxy.oauth.token import Token
from proxy.secret import Secret

ISSUER = "https://login.example"
HAND = {"token_endpoint": "https://a.example/token", "authorization_endpoint": "https://a.example/authorize"}
MORE = {"revocation_endpoint": "https://a.example/revoke", "introspection_endpoint": "https://a.example/i"}


def given_to(credential, **fields) -> Token:
    return bind(
        Token(None, Secret("R"), server_of(credential), credential.client_id, 0.0, 0.0, "b", **fields),
        credential,
    )


SAME = [  # the credential that got the token, and the changed one
    ({"issuer": ISSUER}, {"issuer": ISSUER}),
    (HAND, HAND),
    (HAND, {**HAND, **MORE}),  # an added endpoint requires no login
    ({**HAND, **MORE}, HAND),
    ({"issuer": ISSUER}, {"issuer": ISSUER, **MORE}),
    ({"issuer": ISSUER, **MORE}, {"issuer": ISSUER}),
    ({"issuer": ISSUER}, {"issuer": ISSUER, "scopes": ["api"], "client_secret": "s", "pkce": False}),
    ({"issuer": ISSUER, **HAND}, {"issuer": ISSUER}),  # endpoints from the issuer's metadata are trusted
    (
        {"issuer": ISSUER, "grant": "refresh_token", "refresh_token": Secret("a")},
        {"issuer": ISSUER, "grant": "refresh_token", "refresh_token": Secret("b")},
    ),
]
OTHER = [
    ({"issuer": ISSUER}, {"issuer": f"{ISSUER}/"}),
    ({"issuer": ISSUER}, {"issuer": ISSUER, "client_id": "other"}),
    ({"issuer": ISSUER}, HAND),
    (HAND, {"issuer": ISSUER, **HAND}),
    ({"issuer": ISSUER}, {"issuer": ISSUER, "grant": "refresh_token", "refresh_token": Secret("a")}),
    ({"issuer": ISSUER}, {"issuer": ISSUER, "grant": "client_credentials", "client_secret": "s"}),
    *(
        ({"issuer": ISSUER, **HAND, **MORE}, {"issuer": ISSUER, **HAND, **MORE, name: "https://b.example/x"})
        for name in (*HAND, *MORE)
    ),
    (HAND, {**HAND, "authorization_endpoint": "https://b.example/authorize"}),
]


@pytest.mark.parametrize(("before", "now"), SAME)
def test_an_error_that_is_not_of_the_server_changes_nothing(credential, before, now):
    assert is_bound(given_to(credential(**before)), credential(**now))


@pytest.mark.parametrize(("before", "now"), OTHER)
def test_another_grant_client_issuer_or_endpoint_is_another_server(credential, before, now):
    assert not is_bound(given_to(credential(**before)), credential(**now))


def test_a_token_endpoint_by_hand_must_be_the_one_that_gave_the_token(credential):
    token = given_to(credential(issuer=ISSUER), token_endpoint="https://login.example/token")
    for url, is_same in (("https://login.example/token", True), ("https://login.example/token2", False)):
        assert is_bound(token, credential(issuer=ISSUER, token_endpoint=url)) is is_same


@pytest.mark.parametrize(("before", "now"), [*SAME, *OTHER])
def test_a_token_of_an_earlier_version_is_adopted_and_bound_to_what_is_configured(credential, before, now):
    old, new = credential(**before), credential(**now)
    token = Token(None, Secret("R"), server_of(new), new.client_id, 0.0, 0.0, "b")
    assert is_bound(token, new)
    bound = bind(token, new)
    assert bound.grant == new.grant
    assert is_bound(bound, new)
    assert is_bound(bound, old) is is_bound(given_to(new), old)
    assert bind(bound, old) is bound  # once is for good
