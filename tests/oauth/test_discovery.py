"""Where an issuer's endpoints are, and whose word is taken for it."""

from __future__ import annotations

import pytest
from aiohttp import web

from proxy.errors import AuthorizationServerError
from proxy.oauth import discovery
from proxy.oauth.grants.base import refresh_form
from proxy.secret import Secret

OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
HOUR = 3600


def metadata(issuer: str, **members: object) -> dict[str, object]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "revocation_endpoint": f"{issuer}/revoke",
        **members,
    }


async def outcome_of(asking) -> tuple[str, str]:
    with pytest.raises(AuthorizationServerError) as caught:
        await asking
    return caught.value.outcome, caught.value.error


PLACES = [  # path of the issuer, path of the document
    ("", OAUTH),
    ("", OPENID),
    ("/", OAUTH),  # the slash is a part of the issuer's name
    ("/tenant", f"{OAUTH}/tenant"),
    ("/tenant", f"/tenant{OPENID}"),
    ("/tenant/", f"{OAUTH}/tenant"),
    ("/a/b", f"{OAUTH}/a/b"),
]


@pytest.mark.parametrize(("path", "place"), PLACES)
async def test_both_well_known_places_are_tried(puppet, servers, credential, path, place):
    issuer = puppet.url + path
    puppet.says(place, metadata(issuer))
    found = await servers.endpoints(credential(issuer=issuer))
    assert found.token_endpoint == f"{issuer}/token"
    assert found.authorization_endpoint == f"{issuer}/authorize"
    assert found.revocation_endpoint == f"{issuer}/revoke"
    assert found.issuer == issuer
    assert not found.iss_in_callback


@pytest.mark.parametrize(
    "first", [b"<html>", b"[]", b'{"issuer": "https://else.example"}', b"\xff", b"[" * 200_000]
)
async def test_a_first_document_that_is_none_leaves_the_word_to_the_second(
    puppet, servers, credential, first
):
    async def say(_request):
        return web.Response(body=first)

    puppet.answers[OAUTH] = say
    puppet.says(OPENID, metadata(puppet.url))
    assert (await servers.endpoints(credential(issuer=puppet.url))).token_endpoint == f"{puppet.url}/token"


@pytest.mark.parametrize("named", ["https://else.example", "{}/", "{}/tenant", "", None, 7])
async def test_a_document_that_speaks_for_another_issuer_is_not_believed(puppet, servers, credential, named):
    name = named.format(puppet.url) if isinstance(named, str) else named
    puppet.says(OAUTH, {**metadata(puppet.url), "issuer": name})
    puppet.says(OPENID, {**metadata(puppet.url), "issuer": name})
    asking = servers.endpoints(credential(issuer=puppet.url))
    assert await outcome_of(asking) == ("misconfigured", "issuer_mismatch")


UNSAFE = [
    "http://login.example/token",
    "http://localhost.evil.example/token",
    "http://localhost:80@evil.example/token",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "--help",
    "$(calc)",
    "https://login.example/\r\nSet-Cookie: a=b",
    "https://login.example/ a",
    "https://login.example/\t",
    "https://user:password@login.example/",
    "https://login.example/#fragment",
    "https://[::1",
    "https://",
    "//login.example/",
    "",
    7,
    ["https://login.example/"],
]


@pytest.mark.parametrize("url", UNSAFE)
@pytest.mark.parametrize("name", ["token_endpoint", "authorization_endpoint"])
async def test_an_endpoint_that_is_not_safe_is_never_used(
    puppet, servers, credential, monkeypatch, name, url
):
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # changes nothing
    puppet.says(OAUTH, metadata(puppet.url, **{name: url}))
    asking = servers.endpoints(credential(issuer=puppet.url))
    assert await outcome_of(asking) == ("misconfigured", "unsafe_endpoint")


@pytest.mark.parametrize("url", [*UNSAFE, 5, None])
async def test_an_introspection_endpoint_that_is_not_safe_is_passed_over(puppet, servers, credential, url):
    puppet.says(OAUTH, metadata(puppet.url, introspection_endpoint=url))
    found = await servers.endpoints(credential(issuer=puppet.url))
    assert (found.introspection_endpoint, found.token_endpoint) == (None, f"{puppet.url}/token")


async def test_introspection_is_discovered_or_given_by_hand(puppet, servers, credential):
    puppet.says(OAUTH, metadata(puppet.url, introspection_endpoint="https://x.example/found"))
    found = await servers.endpoints(credential(issuer=puppet.url))
    assert found.introspection_endpoint == "https://x.example/found"
    client = credential(issuer=puppet.url, introspection_endpoint="https://x.example/by-hand")
    assert (await servers.endpoints(client)).introspection_endpoint == "https://x.example/by-hand"


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example/token?tenant=1",
        "http://127.0.0.1:1/t",
        "http://[::1]:1/t",
        "http://localhost/t",
    ],
)
async def test_https_is_safe_and_so_is_this_machine(puppet, servers, credential, url):
    puppet.says(OAUTH, metadata(puppet.url, token_endpoint=url))
    assert (await servers.endpoints(credential(issuer=puppet.url))).token_endpoint == url


async def test_what_is_given_by_hand_is_not_overridden_and_needs_no_discovery(puppet, servers, credential):
    puppet.says(OAUTH, metadata(puppet.url))
    puppet.says("/by-hand", {"access_token": "AT-1", "token_type": "Bearer"})
    client = credential(issuer=puppet.url, token_endpoint=f"{puppet.url}/by-hand")
    await servers.token(client, refresh_form((), Secret("R0")))
    assert puppet.hits == ["POST /by-hand"]
    found = await servers.endpoints(client)
    assert found.token_endpoint == f"{puppet.url}/by-hand"
    assert found.authorization_endpoint == f"{puppet.url}/authorize"


async def test_a_document_is_asked_for_once_an_hour(puppet, servers, credential, clock):
    puppet.says(OAUTH, metadata(puppet.url))
    client = credential(issuer=puppet.url)
    for _ in range(3):
        await servers.endpoints(client)
    assert len(puppet.hits) == 1
    clock.advance(HOUR)
    await servers.endpoints(client)
    assert len(puppet.hits) == 2


async def test_the_old_copy_serves_while_the_server_has_no_better_one(puppet, servers, credential, clock):
    puppet.says(OAUTH, metadata(puppet.url))
    client = credential(issuer=puppet.url)
    await servers.endpoints(client)
    puppet.says(OAUTH, {}, status=503)
    clock.advance(HOUR)
    for _ in range(3):
        assert (await servers.endpoints(client)).token_endpoint == f"{puppet.url}/token"
    assert len(puppet.hits) == 3  # the first, and one at each place: not again for every request
    clock.advance(discovery.ASK_AGAIN)
    puppet.says(OAUTH, metadata(puppet.url, token_endpoint=f"{puppet.url}/moved"))
    assert (await servers.endpoints(client)).token_endpoint == f"{puppet.url}/moved"


async def test_what_one_authority_vouches_for_says_nothing_to_who_trusts_another(
    puppet, servers, credential, tmp_path
):
    puppet.says(OAUTH, metadata(puppet.url))
    await servers.endpoints(credential(issuer=puppet.url))
    (tmp_path / "ca.pem").write_text("")
    await servers.endpoints(credential(issuer=puppet.url, tls={"ca": str(tmp_path / "ca.pem")}))
    assert len(puppet.hits) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(make_puppet, puppet, servers, credential, status):
    async with make_puppet() as elsewhere:
        elsewhere.says(OAUTH, metadata(puppet.url))

        async def redirect(_request):
            return web.Response(status=status, headers={"Location": elsewhere.url + OAUTH})

        puppet.answers[OAUTH] = puppet.answers[OPENID] = redirect
        asking = servers.endpoints(credential(issuer=puppet.url))
        assert await outcome_of(asking) == ("transient", "discovery")
        assert elsewhere.hits == []


async def test_the_promise_to_name_itself_in_the_callback_is_read(puppet, servers, credential):
    puppet.says(OAUTH, metadata(puppet.url, authorization_response_iss_parameter_supported=True))
    assert (await servers.endpoints(credential(issuer=puppet.url))).iss_in_callback


async def test_without_an_issuer_there_is_nothing_to_discover(servers, credential):
    client = credential(token_endpoint="https://x.example/t", authorization_endpoint="https://x.example/a")
    found = await servers.endpoints(client)
    assert found.issuer is None
    assert found.token_endpoint == "https://x.example/t"
    assert found.authorization_endpoint == "https://x.example/a"
    assert found.revocation_endpoint is None
