"""Introspection and revocation, and the handling of bad responses to them."""

from __future__ import annotations

from email.utils import formatdate
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from proxy.secret import Secret
from tests.oauth.outcome import outcome_of

INTROSPECTED = [  # the response of the endpoint, seconds
    (200, {"active": True, "exp": 1_800_000_600}, 600),
    (200, {"active": True}, None),
    (200, {"active": True, "exp": 1_700_000_000}, None),
    (200, {"active": False, "exp": 1_800_000_600}, "introspection"),
    (200, {"exp": 1_800_000_600}, "introspection"),
    (200, [], "introspection"),
    (401, {"error": "invalid_client"}, "introspection"),
    (302, {}, "introspection_redirect"),
]


@pytest.mark.parametrize(("status", "document", "expected"), INTROSPECTED)
async def test_introspection_returns_the_remaining_lifetime(
    puppet, servers, credential, clock, status, document, expected
):
    client = credential(
        token_endpoint="https://x.example/token",
        authorization_endpoint="https://x.example/",
        introspection_endpoint=f"{puppet.url}/introspect",
        client_secret="s",
    )
    forms = []

    async def respond(request):
        forms.append((dict(parse_qsl(await request.text())), request.headers["Authorization"]))
        date = formatdate(clock.wall(), usegmt=True)
        return web.json_response(document, status=status, headers={"Date": date})

    puppet.answers["/introspect"] = respond
    asking = servers.introspected_lifetime(client, Secret("AT-1"))
    if isinstance(expected, str):
        outcome = "misconfigured" if status == 302 else "transient"
        assert await outcome_of(asking) == (outcome, expected)
    else:
        assert await asking == expected
    assert forms == [({"token": "AT-1", "token_type_hint": "access_token"}, "Basic d2ViOnM=")]


async def test_an_introspection_response_that_is_not_json_is_an_error(puppet, servers, credential):
    client = credential(issuer=puppet.url, introspection_endpoint=f"{puppet.url}/introspect")

    async def respond(_request):
        return web.Response(body=b"[" * 100_000)

    puppet.answers["/introspect"] = respond
    asking = servers.introspected_lifetime(client, Secret("AT-1"))
    assert await outcome_of(asking) == ("transient", "introspection")


async def test_without_an_introspection_endpoint_no_request_is_sent(credential, puppet, servers):
    client = credential(token_endpoint=f"{puppet.url}/t", authorization_endpoint="https://x.example/")
    assert await servers.introspected_lifetime(client, Secret("AT-1")) is None
    assert puppet.hits == []


async def test_revocation_follows_no_redirect_and_takes_200_for_done(puppet, servers, web_client):
    bodies = []

    async def revoke(request):
        bodies.append(dict(parse_qsl(await request.text())))
        return web.Response()

    puppet.answers["/revoke"] = revoke
    assert await servers.revoke(web_client, Secret("R0"), "refresh_token") is True
    assert bodies == [{"token": "R0", "token_type_hint": "refresh_token"}]
    puppet.says("/revoke", {}, status=307)
    assert await outcome_of(servers.revoke(web_client, Secret("R0"), "refresh_token")) == (
        "misconfigured",
        "revocation_redirect",
    )


async def test_there_is_nothing_to_revoke_at_a_server_without_the_endpoint(credential, puppet, servers):
    puppet.says(
        "/.well-known/oauth-authorization-server",
        {"issuer": puppet.url, "token_endpoint": f"{puppet.url}/token"},
    )
    assert await servers.revoke(credential(issuer=puppet.url), Secret("R0"), "refresh_token") is False
