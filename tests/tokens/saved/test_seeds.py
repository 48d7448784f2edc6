"""The configured refresh token: adopted once, then only the store counts."""

from __future__ import annotations

import pytest

from proxy.errors import LoginRequired, Misconfigured, TokenUnavailable
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.tokens.saved.seeds import fingerprint
from tests.tokens.conftest import HOUR
from tests.tokens.saved.conftest import new_seed

KEY = AccountId("crm", "default")


def sent(side) -> list[str]:
    return [request.refresh_token for request in side.refreshes]


def fingerprint_of(text: str) -> str:
    return fingerprint(Secret(text))


async def test_a_seed_is_used_once_and_then_the_store_wins(server, store, seeded):
    seed = new_seed(server)
    for _ in range(3):
        async with seeded(server, seed, store) as side:
            assert side.is_good(await side.tokens.get(side.account()))
            side.clock.advance(HOUR)
            assert side.is_good(await side.tokens.get(side.account()))
    assert sent(side)[0] == fingerprint_of(seed)
    assert len(sent(side)) == len(set(sent(side))) == 4  # after a restart the last access token is still used
    assert server.families_revoked == 0


async def test_a_new_seed_is_adopted_and_the_old_one_back_again_too(server, store, seeded):
    first, second = new_seed(server), new_seed(server)
    for seed in (first, second):
        async with seeded(server, seed, store) as side:
            await side.tokens.get(side.account())
    assert sent(side) == [fingerprint_of(first), fingerprint_of(second)]


async def test_a_seed_that_is_refused_is_not_tried_again_but_another_is(server, store, seeded):
    for _ in range(3):
        async with seeded(server, "worthless", store) as side:
            with pytest.raises(LoginRequired, match=r"set credentials\.crm\.refresh_token to a new"):
                await side.tokens.get(side.account())
    assert len(sent(side)) == 1
    async with seeded(server, new_seed(server), store) as side:
        assert side.is_good(await side.tokens.get(side.account()))


async def test_after_a_logout_the_same_seed_is_not_adopted_again_but_another_is(server, store, seeded):
    seed = new_seed(server)
    async with seeded(server, seed, store) as side:
        await side.tokens.get(side.account())
        await side.logins.log_out(KEY)
        with pytest.raises(LoginRequired):
            await side.tokens.get(side.account())
    async with seeded(server, seed, store) as side:
        with pytest.raises(LoginRequired):
            await side.tokens.get(side.account())
        assert (await side.stored()).state == "logged_out"
    async with seeded(server, new_seed(server), store) as side:
        assert side.is_good(await side.tokens.get(side.account()))


async def test_a_seed_tried_with_a_misspelt_client_is_tried_again_with_the_right_one(server, store, seeded):
    seed = new_seed(server)
    wrong = f'grant = "refresh_token"\nclient_id = "wbe"\nrefresh_token = "{seed}"'
    async with seeded(server, seed, store, credential=wrong) as side:
        with pytest.raises(Misconfigured):
            await side.tokens.get(side.account())
    async with seeded(server, seed, store) as side:
        assert side.is_good(await side.tokens.get(side.account()))


async def test_a_misspelt_client_does_not_cost_the_refresh_token_that_followed_the_seed(
    server, store, seeded
):
    seed = new_seed(server)
    async with seeded(server, seed, store) as side:
        await side.tokens.get(side.account())
    record = await side.stored()
    wrong = f'grant = "refresh_token"\nclient_id = "wbe"\nrefresh_token = "{seed}"'
    async with seeded(server, seed, store, credential=wrong) as side:
        with pytest.raises(LoginRequired):
            await side.tokens.get(side.account())
    assert await side.stored() == record
    async with seeded(server, seed, store) as side:
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(side.account()))
    assert server.families_revoked == 0


async def test_a_seed_is_refreshed_before_anybody_asks(server, store, seeded):
    async with seeded(server, new_seed(server), store) as side, side.kept_fresh():
        await side.until(lambda: side.tokens.ready(side.account()))


async def test_a_store_that_cannot_save_the_seed_delays_no_account(server, faulty_store, seeded):
    faulty_store.failing = {"put"}
    async with seeded(server, new_seed(server), faulty_store) as side:
        with pytest.raises(TokenUnavailable, match="the token store can't be read now"):
            await side.tokens.get(side.account())
        faulty_store.failing = set()
        assert side.is_good(await side.tokens.get(side.account()))
