"""A logout, and what a person is told of it."""

from __future__ import annotations

import pytest
from aiohttp import web

from proxy.demo.serve import running
from proxy.store.base import AccountId

KEY = AccountId("crm", "ann")


async def test_a_logout_revokes_refresh_and_access_token_and_forgets_them(side):
    account = await side.log_in("ann")
    token = account.held.token
    await side.logins.log_out(KEY)
    assert account.state() == "absent"
    assert side.tokens.ready(account) is None
    assert side.server.active(token.access_token.reveal()) is None
    assert side.server._protocol.ledger.present(token.refresh_token.reveal(), "web") is None


async def test_a_logout_forgets_the_tokens_whatever_the_response(make_side, caplog):
    nobody = "http://127.0.0.1:1"
    endpoints = [f'{name}_endpoint = "{nobody}"' for name in ("token", "authorization", "revocation")]
    async with make_side(credential="\n".join(['client_id = "web"', *endpoints])) as side:
        account = await side.log_in("ann")
        await side.logins.log_out(KEY)
        assert account.state() == "absent"
    assert "its refresh_token was not revoked: the authorization server can't be reached" in caplog.text


REVOCATIONS = [  # the response to a revocation, the code of what is told; "": nothing
    (200, None, ""),
    (204, None, ""),
    (404, None, "revocation_refused"),
    (401, None, "revocation_refused"),
    (429, None, "http_429"),
    (503, None, "http_503"),
    (302, None, "revocation_redirect"),
    (307, None, "revocation_redirect"),
    (400, {"error": "unsupported_token_type"}, "revocation_refused"),
]


@pytest.mark.parametrize(("status", "body", "code"), REVOCATIONS)
async def test_a_person_is_told_that_the_server_has_not_revoked_the_tokens(make_side, status, body, code):
    async def revoke(_request):
        return web.json_response(body, status=status) if body else web.Response(status=status)

    app = web.Application()
    app.router.add_post("/revoke", revoke)
    async with running(app) as url:
        endpoints = [f'{name}_endpoint = "{url}/{name}"' for name in ("token", "authorization")]
        lines = ['client_id = "web"', *endpoints, f'revocation_endpoint = "{url}/revoke"']
        async with make_side(credential="\n".join(lines)) as side:
            await side.log_in("ann")
            told = await side.logins.log_out(KEY)
            assert (f"({code})" in told and "until they expire" in told) if code else told == ""
            assert ("set credentials.crm.revocation_endpoint to" in told) == (code == "revocation_redirect")
            assert await side.logins.log_out(KEY) == "", "nothing is left to revoke"


async def test_a_person_is_told_that_there_is_no_way_to_revoke_the_tokens(make_side, caplog):
    endpoints = ['token_endpoint = "http://127.0.0.1:1"', 'authorization_endpoint = "http://127.0.0.1:1"']
    async with make_side(credential="\n".join(['client_id = "web"', *endpoints])) as side:
        await side.log_in("ann")
        told = await side.logins.log_out(KEY)
    assert "no revocation endpoint of the authorization server is known (no_revocation_endpoint)" in told
    assert "set credentials.crm.revocation_endpoint" in told
    (event,) = {each.fields["error"] for each in caplog.records if each.event == "revocation_failed"}
    assert event == "no_revocation_endpoint"
