"""Whatever a token endpoint answers to a refresh, no good token is lost to it (table: oauth/answers.py)."""

from __future__ import annotations

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


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_store_holds_what_it_held_or_exactly_the_new_token(make_side, row: Row):
    async def answer(_request):
        return web.Response(status=row.status, body=row.raw, headers=row.fields)

    app = web.Application()
    app.router.add_post("/token", answer)
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
            assert (stored.generation, stored.state) == (2, "valid")
            assert token.access_token.reveal() == given.access_token
            assert token.refresh_token.reveal() == (given.refresh_token or old.refresh_token.reveal())
            assert token.lifetime == given.lifetime
            assert side.tokens.ready(account).access_token.reveal() == given.access_token
            return
        assert token == old
        assert side.tokens.ready(account) is served  # to its end
        outcome, error = row.comes_to
        if outcome == "login_required":
            assert (stored.generation, stored.state) == (2, "login_required")
            return
        assert (stored.generation, stored.state, stored.due_at) == (1, "valid", record.due_at)
        assert (account.last_refresh.outcome, account.last_refresh.error) == (outcome, error)
