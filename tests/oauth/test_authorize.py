"""The authorization request and its redirect."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from proxy.config.model import Credential
from proxy.oauth import authorize
from proxy.oauth.authorize import AuthorizationRequest

ENDPOINT = "https://login.example/authorize"
REDIRECT = "http://127.0.0.1:8081/callback"


def parameters(client: Credential, endpoint: str = ENDPOINT) -> list[tuple[str, str]]:
    url = authorize.authorization_url(client, endpoint, AuthorizationRequest(REDIRECT, "S", "v" * 64))
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == ENDPOINT
    return parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)


def test_the_whole_request(credential):
    client = credential(
        issuer="https://login.example",
        scopes=["api", "mail"],
        authorize_params={
            "access_type": "offline",
            "resource": ["https://one.example/", "https://two.example/"],
        },
    )
    assert sorted(parameters(client)) == [
        ("access_type", "offline"),
        ("client_id", "web"),
        ("code_challenge", create_s256_code_challenge("v" * 64)),
        ("code_challenge_method", "S256"),
        ("redirect_uri", REDIRECT),
        ("resource", "https://one.example/"),
        ("resource", "https://two.example/"),
        ("response_type", "code"),
        ("scope", "api mail"),
        ("state", "S"),
    ]


def test_each_resource_is_a_parameter_of_its_own(credential):
    resources = ["https://one.example/?a=b&c", "urn:two"]
    client = credential(issuer="https://login.example", resource=resources)
    sent = [value for name, value in parameters(client) if name == "resource"]
    assert sent == resources


def test_no_scope_is_asked_for_when_none_is_configured(credential):
    assert "scope" not in dict(parameters(credential(issuer="https://login.example")))


def test_a_query_of_the_endpoint_is_kept(credential):
    client = credential(issuer="https://login.example")
    assert ("tenant", "a b") in parameters(client, f"{ENDPOINT}?tenant=a%20b")


NAMES = st.text(min_size=1).filter(
    lambda name: (
        name
        not in {
            "client_id",
            "code_challenge",
            "code_challenge_method",
            "redirect_uri",
            "response_type",
            "scope",
            "state",
            "uri",
        }
    )
)


@given(st.dictionaries(NAMES, st.text() | st.lists(st.text()), max_size=3))
def test_s256_always(extra):
    client = Credential.model_validate(
        {"client_id": "web", "issuer": "https://login.example", "authorize_params": extra}
    )
    sent = parameters(client)
    assert [value for name, value in sent if name == "code_challenge_method"] == ["S256"]
    assert [value for name, value in sent if name == "state"] == ["S"]
    assert [value for name, value in sent if name == "redirect_uri"] == [REDIRECT]


def test_a_scope_with_commas_is_sent_as_it_is():
    """For servers that want commas in it, such as Strava's."""
    extra = {"scope": "read,activity:read"}
    client = Credential.model_validate(
        {"client_id": "web", "issuer": "https://login.example", "authorize_params": extra}
    )
    assert [value for name, value in parameters(client) if name == "scope"] == ["read,activity:read"]


def test_states_and_verifiers_are_new_unguessable_and_of_the_right_letters():
    unreserved = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 section 4.1; 43 of these are 256 bits
    for make in (authorize.new_state, authorize.new_verifier):
        made = {make() for _ in range(100)}
        assert len(made) == 100
        assert all(unreserved.fullmatch(value) for value in made)


CALLBACKS = [
    ("http://127.0.0.1:8081/callback?code=C&state=S", authorize.Callback("S", "C", "", None)),
    (
        "  http://127.0.0.1:8081/callback?code=C&state=S&iss=https%3A%2F%2Fa.example \n",
        authorize.Callback("S", "C", "", "https://a.example"),
    ),
    ("http://x/callback?error=access_denied&state=S&iss=", authorize.Callback("S", "", "access_denied", "")),
    ("http://x/callback", authorize.Callback("", "", "", None)),
    ("nonsense", authorize.Callback("", "", "", None)),
    ("http://[", authorize.Callback("", "", "", None)),
]


@pytest.mark.parametrize(("pasted", "callback"), CALLBACKS)
def test_a_pasted_redirect_url(pasted, callback):
    assert authorize.read_callback(authorize.callback_parameters(pasted)) == callback


def sent(client: Credential, verifier: str | None, nonce: str) -> dict[str, str]:
    url = authorize.authorization_url(client, ENDPOINT, AuthorizationRequest(REDIRECT, "S", verifier, nonce))
    return dict(parse_qsl(urlsplit(url).query, strict_parsing=True))


def test_without_pkce_nothing_of_it_is_sent(credential):
    client = credential(issuer="https://login.example", pkce=False)
    assert sent(client, None, "").keys() == {"client_id", "redirect_uri", "response_type", "state"}


def test_a_nonce_is_sent_with_openid_and_is_another_each_time(credential):
    client = credential(issuer="https://login.example", scopes=["openid", "api"])
    nonces = {authorize.nonce_for(client) for _ in range(100)}
    assert len(nonces) == 100
    assert all(len(nonce) == 43 for nonce in nonces)  # 256 bits
    assert sent(client, "v" * 64, "n-1")["nonce"] == "n-1"


def test_no_nonce_is_sent_without_openid(credential):
    for scopes in ((), ("api",), ("openid2",)):
        client = credential(issuer="https://login.example", scopes=scopes)
        assert authorize.nonce_for(client) == ""
        assert "nonce" not in sent(client, "v" * 64, "")


def test_a_nonce_of_the_configuration_is_sent_as_it_is_and_expected(credential):
    client = credential(issuer="https://login.example", scopes=["openid"], authorize_params={"nonce": "x"})
    assert authorize.nonce_for(client) == "x"
    assert sent(client, "v" * 64, "x")["nonce"] == "x"


REPEATED = [  # the query, what is repeated
    ("code=C&state=S", set()),
    ("code=C&code=C&state=S", {"code"}),
    ("code=C&code=D&state=S", {"code"}),
    ("code=C&state=S&state=S", {"state"}),
    ("code=C&state=S&iss=a&iss=a", {"iss"}),
    ("error=a&error=b&state=S&state=", {"error", "state"}),
    ("code=C&co%64e=D&state=S", {"code"}),
    ("code=C&state=S&scope=a&scope=b&error_uri=x&error_uri=y", set()),
    ("code=C&Code=D&state=S", set()),  # names are case-sensitive
]


@pytest.mark.parametrize(("query", "repeated"), REPEATED)
def test_repeated_parameters_are_noted(query, repeated):
    pasted = authorize.read_callback(authorize.callback_parameters(f"http://x/callback?{query}"))
    assert pasted.repeated == repeated
    assert authorize.read_callback(URL(f"http://x/callback?{query}").query.items()) == pasted


CLOSENESS = [  # an issuer, a URL, what they have in common
    ("https://a.example", "https://a.example/authorize", 1),
    ("https://a.example/", "https://a.example:443/authorize", 1),
    ("https://A.example.", "https://a.example/authorize", 1),
    ("https://a.example/t-1/v2.0", "https://a.example/t-1/oauth2/authorize", 2),
    ("https://a.example/t-1", "https://a.example/t-2/authorize", 1),
    ("https://a.example/t-1", "https://a.example/t-10", 1),
    ("http://a.example", "https://a.example", 0),
    ("https://a.example:444", "https://a.example", 0),
    ("https://a.example", "https://b.a.example", 0),
    ("https://a.example@b.example", "https://a.example", 0),
    ("acme.com", "https://acme.com/authorize", 0),
    ("", "https://a.example", 0),
    ("https://[", "https://a.example", 0),
    ("https://a.example:99999", "https://a.example", 0),
    ("https:///x", "https:///x", 0),
]


@pytest.mark.parametrize(("iss", "url", "common"), CLOSENESS)
def test_what_an_issuer_has_in_common_with_a_url(iss, url, common):
    assert authorize.closeness(iss, [url]) == common
    assert authorize.closeness(iss, [url, "https://far.example"]) == common
    assert authorize.closeness(iss, []) == 0


@given(st.text(), st.text())
def test_any_issuer_can_be_compared(iss, url):
    assert authorize.closeness(iss, [url]) == authorize.closeness(url, [iss])
    assert authorize.read_callback(authorize.callback_parameters(iss)).repeated <= {
        "state",
        "code",
        "iss",
        "error",
    }
    assert isinstance(authorize.path_of(iss), str)
