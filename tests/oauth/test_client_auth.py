"""How a client proves itself, judged by a server that knows its secret."""

from __future__ import annotations

import base64
from urllib.parse import parse_qsl

import pytest

from proxy.demo.authorization_server import AuthorizationServer, Client
from proxy.demo.serve import running
from proxy.errors import AuthorizationServerError
from proxy.oauth import client_auth
from proxy.oauth.grants.client_credentials import CLIENT_CREDENTIALS

URL = "https://login.example/token"
HARD = "p+a%:/ é…"
FORM = "grant_type=client_credentials"

WAYS = [  # client_auth, basic_encoding, Authorization, what is added to the form
    ("client_secret_basic", "rfc6749", "web:p%2Ba%25%3A%2F%20%C3%A9%E2%80%A6", {}),
    ("client_secret_basic", "raw", "web:" + HARD, {}),
    ("client_secret_post", "rfc6749", None, {"client_id": "web", "client_secret": HARD}),
    ("none", "rfc6749", None, {"client_id": "web"}),
]


@pytest.mark.parametrize(("method", "encoding", "userpass", "added"), WAYS)
def test_what_is_sent(credential, method, encoding, userpass, added):
    secret = {} if method == "none" else {"client_secret": HARD}
    client = credential(
        token_endpoint=URL, grant="client_credentials", client_auth=method, basic_encoding=encoding, **secret
    )
    url, headers, body = client_auth.authenticate(client, URL, FORM)
    sent = headers.get("Authorization")
    assert (sent and base64.b64decode(sent.removeprefix("Basic ")).decode()) == userpass
    assert dict(parse_qsl(body)) == {"grant_type": "client_credentials", **added}
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert url == URL


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
        asking = servers.token(client, CLIENT_CREDENTIALS.form((), None))
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


def test_without_a_word_about_it_a_secret_is_sent_as_basic_and_no_secret_as_none(credential):
    assert (
        credential(
            token_endpoint=URL, grant="refresh_token", refresh_token="R", client_secret="s"
        ).authentication
        == "client_secret_basic"
    )
    assert credential(token_endpoint=URL, grant="refresh_token", refresh_token="R").authentication == "none"
