"""No response to a refresh makes a valid token unusable (the table is in oauth/responses.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiohttp import web

from proxy.demo.serve import running
from proxy.tokens.saved import codec
from tests.oauth.responses import ROWS, Given, Row

STALE = 3000
CREDENTIAL = """
client_id = "web"
token_endpoint = "{url}/token"
authorization_endpoint = "{url}/authorize"
"""
REFUSALS = {  # of the refresh token, or perhaps of it
    *(
        row.name
        for row in ROWS
        if not isinstance(row.comes_to, Given) and row.comes_to[0] == "login_required"
    ),
    "403 with JSON and no error",
    "401 with an empty body",
    "invalid_request",
    "invalid_target",
    "400 with a token",
    "an error that nobody knows",
    "an error that is an object",
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_store_has_the_old_token_or_exactly_the_new_one(make_side, row: Row):
    async def respond(_request):
        return web.Response(status=row.status, body=row.raw, headers=row.fields)

    app = web.Application()
    app.router.add_post("/token", respond)
    async with running(app) as url, make_side(credential=CREDENTIAL.format(url=url)) as side:
        account = await side.log_in()
        served, record = side.tokens.ready(account), await side.stored()
        old = codec.decode(record.body)
        side.clock.advance(STALE)
        assert side.tokens.ready(account) is served
        await side.landed(account)
        stored = await side.stored()
        token = codec.decode(stored.body)
        if isinstance(row.comes_to, Given):
            given = row.comes_to
            if given.refusal:
                assert (stored.generation, stored.state, stored.due_at) == (2, "valid", record.due_at)
                assert token.refresh_token.reveal() == given.refresh_token
                assert token.access_token == old.access_token
                assert side.tokens.ready(account) is served  # until it expires
                assert (account.last_refresh.error, account.failures) == (given.refusal, 1)
                return
            assert (stored.generation, stored.state) == (2, "valid")
            assert token.access_token.reveal() == given.access_token
            assert token.refresh_token.reveal() == (given.refresh_token or old.refresh_token.reveal())
            assert token.lifetime == given.lifetime
            assert side.tokens.ready(account).access_token.reveal() == given.access_token
            return
        assert replace(token, refusal=None) == old
        assert side.tokens.ready(account) is served  # until it expires
        outcome, error = row.comes_to
        if row.name in REFUSALS:  # one is not the end
            assert (stored.generation, stored.state, token.refusal.error) == (2, "valid", error)
            assert (token.refusal.is_dead, token.refusal.times) == (outcome == "login_required", 1)
            return
        assert (stored.generation, stored.state, stored.due_at) == (1, "valid", record.due_at)
        assert (account.last_refresh.outcome, account.last_refresh.error) == (outcome, error)
