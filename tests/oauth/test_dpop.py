"""Proofs of possession at the token endpoint, verified claim by claim; nonces; tokens that are not bound."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.demo.serve import running
from proxy.errors import AuthorizationServerError
from proxy.oauth import dpop
from proxy.oauth.dpop import Nonces, Prover, new_key, origin_of
from proxy.oauth.endpoint import RefusedToken
from proxy.oauth.grants.base import refresh_form
from proxy.secret import Secret
from tests.fakes.dpop import ALGORITHMS, BadProof, DpopServer, Verifier

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("offered", "algorithm"),
    [
        (None, "ES256"),
        ([], "ES256"),
        (["none", "HS256"], "ES256"),
        (["RS256", "ES256"], "ES256"),
        *(([name], name) for name in ALGORITHMS),
    ],
)
def test_a_key_is_made_for_what_the_server_takes(offered, algorithm):
    key = new_key(offered)
    assert json.loads(key.reveal())["alg"] == algorithm
    prover, verifier = Prover(key), Verifier(lambda: NOW)
    proof = prover.proof("GET", "https://api.example/x", NOW, access_token="A")
    assert verifier.check([proof], "GET", "https://api.example/x", "A") == prover.thumbprint
    assert Prover(Secret(key.reveal())).thumbprint == prover.thumbprint  # as read from the store
    assert new_key(offered) != key


@given(
    st.sampled_from(["GET", "POST", "M-SEARCH", "get"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="?#"), max_size=40),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=10),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), max_size=40),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=80),
)
def test_a_proof_is_of_one_request_and_one_token(method, path, query, nonce, token):
    verifier = Verifier(lambda: NOW, nonce)
    url = f"https://api.example/{path}"
    proofs = [PROVER.proof(method, f"{url}?{query}", NOW, nonce=nonce, access_token=token) for _ in range(2)]
    assert {verifier.check([each], method, url, token) for each in proofs} == {PROVER.thumbprint}


PROVER = Prover(new_key(None))


def test_nonces_are_kept_by_origin_and_odd_ones_are_not():
    nonces = Nonces()
    assert nonces.learn("https://a", "n-1")
    assert (nonces.of("https://a"), nonces.of("https://b")) == ("n-1", "")
    assert nonces.learn("https://a", "n-1"), "another request may have sent an older one"
    for odd in ("", "a b", 'a"b', "a\\b", "é", "x" * 1025, "a\r\nb"):
        assert not nonces.learn("https://a", odd)
    assert nonces.of("https://a") == "n-1"
    for number in range(dpop.SERVERS + 1):
        nonces.learn(f"https://{number}.example", "n")
    assert nonces.of("https://a") == ""


@pytest.mark.parametrize(
    ("url", "origin"),
    [("https://a.example/token?x", "https://a.example"), ("http://127.0.0.1:80/t", "http://127.0.0.1:80")],
)
def test_the_origin_of_a_url(url, origin):
    assert origin_of(url) == origin


# -- at the token endpoint


@pytest.fixture
async def server(clock):
    made = DpopServer(Verifier(clock.wall))
    async with running(made.application()) as made.url:
        yield made


@pytest.fixture
def client(credential, server):
    return lambda **keys: credential(issuer=server.url, dpop=True, **keys)


async def first_token(server, servers, credential):
    server.refresh_tokens["R0"] = ""
    key = new_key(None)
    server.codes["C"] = Prover(key).thumbprint
    form = {"grant_type": "authorization_code", "code": "C"}
    token = await servers.token_of_person(credential, form, dpop_key=key)
    assert token.dpop_key == key
    return token


async def test_the_key_of_the_login_is_the_key_of_every_refresh(server, servers, client):
    crm = client()
    token = await first_token(server, servers, crm)
    key = token.dpop_key
    for _ in range(3):
        token = await servers.token(crm, refresh_form(crm, token.refresh_token), before=token)
        assert token.dpop_key == key
    assert set(server.bound.values()) == {Prover(key).thumbprint}
    assert server.outcomes == ["success"] * 4


@pytest.mark.parametrize("renews", [False, True], ids=["one nonce", "a new one with each response"])
async def test_a_nonce_is_asked_for_once_and_then_remembered(server, servers, client, renews):
    server.verifier.nonce, server.renews_nonce = "n-0", renews
    crm, sent = client(), []
    token = await first_token(server, servers, crm)
    assert server.outcomes == ["use_dpop_nonce", "success"]
    token = await servers.token(
        crm, refresh_form(crm, token.refresh_token), lambda: sent.append(1), before=token
    )
    assert server.outcomes == ["use_dpop_nonce", "success", "success"]
    server.verifier.nonce = "n-9"
    await servers.token(crm, refresh_form(crm, token.refresh_token), lambda: sent.append(1), before=token)
    assert server.outcomes[3:] == ["use_dpop_nonce", "success"]
    assert len(sent) == 3, "before each sending it is checked that the lease holds"


async def test_a_server_that_always_asks_for_a_nonce_is_asked_twice(server, servers, client):
    server.verifier.nonce = "n-0"
    server.verifier.check = lambda *_: (_ for _ in ()).throw(LookupError)
    crm = client()
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(crm, refresh_form(crm, Secret("R0")))
    assert (caught.value.outcome, caught.value.error) == ("transient", "use_dpop_nonce")
    assert not caught.value.refusal, "the refresh token is not refused"
    assert server.outcomes == ["use_dpop_nonce"] * 2


async def test_a_server_that_asks_without_a_nonce_is_not_asked_again(puppet, servers, credential):
    puppet.says("/token", {"error": "use_dpop_nonce"}, status=400)
    crm = credential(
        token_endpoint=f"{puppet.url}/token", authorization_endpoint=f"{puppet.url}/a", dpop=True
    )
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(crm, refresh_form(crm, Secret("R0")))
    assert caught.value.error == "use_dpop_nonce"
    assert puppet.hits == ["POST /token"]


async def test_each_sending_has_an_assertion_of_its_own(server, servers, client):
    from tests.fakes import signing

    server.verifier.nonce = "n-0"
    server.refresh_tokens["R0"] = "x"
    crm = client(client_key=signing.pem("p256"))
    with pytest.raises(AuthorizationServerError):
        await servers.token(crm, refresh_form(crm, Secret("R0")))
    assert len({form["client_assertion"] for form in server.forms}) == len(server.forms) == 2


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "N_A", "", None, "mac"])
async def test_what_is_not_bound_is_refused_and_its_refresh_token_kept(server, servers, client, token_type):
    crm = client()
    token = await first_token(server, servers, crm)
    server.token_type = token_type
    with pytest.raises(RefusedToken) as caught:
        await servers.token(crm, refresh_form(crm, token.refresh_token), before=token)
    assert (caught.value.outcome, caught.value.error) == ("misconfigured", "no_dpop")
    kept = caught.value.token
    assert (kept.access_token, kept.refresh_token, kept.dpop_key) == (None, Secret("R2"), token.dpop_key)


@pytest.mark.parametrize("token_type", ["DPoP", "dpop", "DPOP"])
async def test_the_type_is_read_whatever_its_case(server, servers, client, token_type):
    server.token_type = token_type
    assert (await first_token(server, servers, client(token_types=["Bearer"]))).access_token == Secret("A1")


async def test_without_the_switch_there_is_no_proof_and_such_a_token_is_refused(server, servers, credential):
    crm = credential(issuer=server.url)
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(crm, refresh_form(crm, Secret("R0")))
    assert caught.value.error == "invalid_dpop_proof"


async def test_the_key_fits_the_metadata(server, servers, client):
    server.metadata["dpop_signing_alg_values_supported"] = ["EdDSA"]
    key = await servers.dpop_key(client())
    assert json.loads(key.reveal())["alg"] == "EdDSA"


async def test_a_proof_is_refused_with_its_own_words(server, servers, client):
    server.verifier.check = lambda *_: (_ for _ in ()).throw(BadProof)
    crm = client()
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(crm, refresh_form(crm, Secret("R0")))
    assert (caught.value.outcome, caught.value.error) == ("misconfigured", "invalid_dpop_proof")
    assert not caught.value.refusal


@pytest.mark.parametrize("ahead", [600, -600])
async def test_a_server_whose_clock_differs_gets_proofs_of_its_own_time(
    server, servers, client, clock, ahead
):
    server.verifier.now = lambda: clock.wall() + ahead
    await first_token(server, servers, client())
    assert server.outcomes == ["invalid_dpop_proof", "success"]
