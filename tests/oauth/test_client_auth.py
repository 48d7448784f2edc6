"""Client authentication, checked by a server that knows the secret."""

from __future__ import annotations

import base64
from importlib.metadata import version
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from proxy.demo.authorization_server import AuthorizationServer, Client
from proxy.demo.serve import running
from proxy.errors import AuthorizationServerError
from proxy.oauth import client_auth
from proxy.oauth.client_auth import Choice, Request
from proxy.oauth.grants.base import refresh_form
from proxy.oauth.grants.client_credentials import CLIENT_CREDENTIALS
from proxy.secret import Secret

URL = "https://login.example/token"
HARD = "p+a%:/ é…"
FORM = "grant_type=client_credentials"

WAYS = [  # client_auth, basic_encoding, Authorization, members added to the form
    ("client_secret_basic", "rfc6749", "web:p%2Ba%25%3A%2F%20%C3%A9%E2%80%A6", {}),
    ("client_secret_basic", "raw", "web:" + HARD, {}),
    ("client_secret_post", "rfc6749", None, {"client_id": "web", "client_secret": HARD}),
    ("none", "rfc6749", None, {"client_id": "web"}),
]


@pytest.mark.parametrize(("method", "encoding", "userpass", "added"), WAYS)
async def test_what_is_sent(credential, method, encoding, userpass, added):
    secret = {} if method == "none" else {"client_secret": HARD}
    client = credential(
        token_endpoint=URL, grant="client_credentials", client_auth=method, basic_encoding=encoding, **secret
    )
    made = await client_auth.authenticate(Request(client, Choice(method), FORM, 0.0))
    sent = made.authorization
    assert (base64.b64decode(sent.removeprefix("Basic ")).decode() if sent else None) == userpass
    assert dict(parse_qsl(made.body)) == {"grant_type": "client_credentials", **added}


SERVER_TAKES = [  # registered method, secret, basic_encoding, whether it gets a token
    ("client_secret_basic", HARD, "rfc6749", True),
    ("client_secret_basic", "plain", "rfc6749", True),
    ("client_secret_basic", "plain", "raw", True),
    ("client_secret_basic", HARD, "raw", False),  # this server decodes, as RFC 6749 section 2.3.1 says
    ("client_secret_post", HARD, "rfc6749", True),
]


@pytest.mark.parametrize(("method", "secret", "encoding", "works"), SERVER_TAKES)
async def test_a_server_that_knows_the_secret(credential, servers, method, secret, encoding, works):
    server = AuthorizationServer(
        clients=[Client("web", secret, auth_method=method, grants=("client_credentials",))]
    )
    async with running(server.application()) as url:
        client = credential(
            token_endpoint=f"{url}/token",
            grant="client_credentials",
            client_secret=secret,
            client_auth=method,
            basic_encoding=encoding,
        )
        asking = servers.token(client, CLIENT_CREDENTIALS.form(client, None))
        if works:
            assert server.active((await asking).access_token.reveal()) == "web"
            return
        with pytest.raises(AuthorizationServerError) as caught:
            await asking
        assert (caught.value.outcome, caught.value.error) == ("misconfigured", "invalid_client")


async def test_a_public_client_is_known_by_its_id(credential, servers):
    server = AuthorizationServer(
        clients=[Client("web", auth_method="none", redirect_uris=("http://127.0.0.1/",))]
    )
    async with running(server.application()) as url:
        client = credential(issuer=url)
        old = server.issue("web", "alice")
        token = await servers.token(
            client, {"grant_type": "refresh_token", "refresh_token": old["refresh_token"]}
        )
        assert server.active(token.access_token.reveal()) == "alice"


def test_without_metadata_a_secret_is_sent_as_basic_and_no_secret_as_none(credential):
    assert (
        credential(
            token_endpoint=URL, grant="refresh_token", refresh_token="R", client_secret="s"
        ).authentication
        == "client_secret_basic"
    )
    assert credential(token_endpoint=URL, grant="refresh_token", refresh_token="R").authentication == "none"


# -- what the metadata offer (RFC 8414 section 2)

OFFERS = [  # token_endpoint_auth_methods_supported, client_auth, the method sent
    (None, None, "client_secret_basic"),
    (["client_secret_basic", "client_secret_post"], None, "client_secret_basic"),
    (["client_secret_post", "client_secret_basic"], None, "client_secret_basic"),
    (["client_secret_post"], None, "client_secret_post"),
    ("client_secret_post", None, "client_secret_post"),  # a string instead of a list
    (["private_key_jwt", "client_secret_post"], None, "client_secret_post"),
    (["private_key_jwt"], None, "client_secret_basic"),  # neither of ours: the metadata may be wrong
    (["none"], None, "client_secret_basic"),
    ([], None, "client_secret_basic"),
    ([7, None], None, "client_secret_basic"),
    ({"client_secret_post": True}, None, "client_secret_basic"),
    (
        ["client_secret_post"],
        "client_secret_basic",
        "client_secret_basic",
    ),  # as configured, whatever the server offers
    (["client_secret_basic"], "client_secret_post", "client_secret_post"),
]


@pytest.mark.parametrize(("offered", "configured", "method"), OFFERS)
async def test_a_method_that_is_not_configured_is_chosen_by_the_metadata(
    puppet, servers, credential, offered, configured, method
):
    document = {
        "issuer": puppet.url,
        "token_endpoint": f"{puppet.url}/token",
        "revocation_endpoint": f"{puppet.url}/revoke",
        "introspection_endpoint": f"{puppet.url}/introspect",
    }
    if offered is not None:
        document["token_endpoint_auth_methods_supported"] = offered
    puppet.says("/.well-known/oauth-authorization-server", document)
    seen = []

    async def give(request):
        form = dict(parse_qsl(await request.text()))
        seen.append("client_secret_post" if "client_secret" in form else "client_secret_basic")
        assert ("Authorization" in request.headers) is ("client_secret" not in form)
        return web.json_response({"access_token": "A", "token_type": "Bearer", "active": True, "exp": 4e9})

    for path in ("/token", "/revoke", "/introspect"):
        puppet.answers[path] = give
    client = credential(issuer=puppet.url, client_secret="s", client_auth=configured)
    token = await servers.token(client, refresh_form((), Secret("R0")))
    await servers.revoke(client, Secret("R0"), "refresh_token")
    await servers.introspected_lifetime(client, Secret("A"))
    assert seen == [method] * 3
    assert token.auth_method == method


async def test_without_a_secret_there_is_nothing_to_choose(puppet, servers, credential):
    client = credential(issuer=puppet.url)
    assert client_auth.choose(client, URL, ["client_secret_post"]) == Choice("none")


HINTS = [  # secret, more keys, error, hint
    ("plain", {}, "invalid_client", "client_auth"),
    ("plain", {"client_auth": "client_secret_basic"}, "invalid_client", ""),
    ("plain", {"client_auth": "client_secret_post"}, "invalid_client", ""),
    ("p+a", {}, "invalid_client", "basic_encoding"),
    ("p+a", {"client_auth": "client_secret_basic"}, "invalid_client", "basic_encoding"),
    ("p+a", {"basic_encoding": "raw"}, "invalid_client", "basic_encoding"),  # this server may decode
    ("p+a", {"client_auth": "client_secret_post"}, "invalid_client", ""),
    ("p+a", {"client_id": "a b"}, "invalid_client", "basic_encoding"),
    ("plain", {"client_id": "https://app.example/"}, "invalid_client", "basic_encoding"),
    ("p+a", {}, "incorrect_client_credentials", "basic_encoding"),
    ("p+a", {}, "invalid_grant", ""),
    ("p+a", {}, "server_error", ""),
    (None, {}, "invalid_client", ""),
]


@pytest.mark.parametrize(("secret", "more", "error", "hint"), HINTS)
async def test_a_refusal_of_the_client_hints_at_the_key_that_may_fix_it(
    puppet, servers, credential, secret, more, error, hint
):
    puppet.says("/token", {"error": error}, status=401)
    keys = {"client_secret": secret} if secret else {}
    client = credential(
        token_endpoint=f"{puppet.url}/token", authorization_endpoint=f"{puppet.url}/a", **keys, **more
    )
    with pytest.raises(AuthorizationServerError) as caught:
        await servers.token(client, refresh_form((), Secret("R0")))
    assert (caught.value.error, caught.value.hint) == (error, hint)


async def test_our_name_and_version_are_on_every_request(puppet, servers, credential):
    agents = []

    async def note(request):
        agents.append(request.headers.getall("User-Agent"))
        return web.json_response(
            {
                "issuer": puppet.url,
                "access_token": "A",
                "token_type": "Bearer",
                **{
                    f"{name}_endpoint": f"{puppet.url}/{name}"
                    for name in ("token", "revocation", "introspection")
                },
            }
        )

    for path in ("/.well-known/oauth-authorization-server", "/token", "/revocation", "/introspection"):
        puppet.answers[path] = note
    client = credential(issuer=puppet.url)
    await servers.token(client, refresh_form((), Secret("R0")))
    await servers.revoke(client, Secret("R0"), "refresh_token")
    with pytest.raises(AuthorizationServerError):
        await servers.introspected_lifetime(client, Secret("A"))
    assert agents == [[f"token-proxy/{version('token-proxy')}"]] * 4
