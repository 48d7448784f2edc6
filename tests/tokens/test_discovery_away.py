"""Discovery fails after a restart, the token endpoint works: refreshes continue."""

from __future__ import annotations

import pytest
from aiohttp import web

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.serve import running
from proxy.errors import LoginFailed
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from tests.tokens.conftest import CLIENTS, HOUR, SEAL


@pytest.fixture
async def switchable(clock):
    """A server, and a list that is not empty while its metadata is unavailable."""
    server = AuthorizationServer(clients=CLIENTS, access_token_lifetime=HOUR, clock=clock)
    away: list[bool] = []

    @web.middleware
    async def hide(request, handler):
        return web.Response(status=404) if away and "well-known" in request.path else await handler(request)

    app = server.application()
    app.middlewares.append(hide)
    async with running(app):
        yield server, away


@pytest.mark.parametrize("grant", ["authorization_code", "refresh_token", "client_credentials"])
async def test_the_endpoint_that_gave_a_token_refreshes_it_after_a_restart(
    make_side, switchable, clock, grant
):
    server, away = switchable
    store = SealedStore(MemoryStore(clock), SEAL)
    seed = server.issue("web", "alice")["refresh_token"]
    async with make_side(server=server, store=store, grant=grant, seed=seed) as side:
        if grant == "authorization_code":
            await side.log_in()
        await side.tokens.refresh_now(side.account())
    away.append(True)
    for _ in range(2):
        clock.advance(HOUR)
        async with make_side(server=server, store=store, grant=grant, seed=seed) as side:
            assert side.is_good(await side.tokens.get(side.account()))
    assert server.families_revoked == 0


async def test_a_login_needs_the_metadata_and_says_so(make_side, switchable):
    server, away = switchable
    away.append(True)
    async with make_side(server=server) as side:
        with pytest.raises(LoginFailed, match="discovery_not_found"):
            await side.logins.begin(AccountId("crm", "default"), browser="b")
