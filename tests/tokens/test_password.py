"""grant = "password" (RFC 6749 section 4.3): refresh tokens while there are, else the password again."""

from __future__ import annotations

import pytest

from proxy.config.load import load
from proxy.demo import faults
from proxy.demo.authorization_server import Client
from proxy.errors import Misconfigured
from tests.tokens.conftest import HOUR

CREDENTIAL = 'grant = "password"\nclient_id = "legacy"\nusername = "ann"\npassword = "wonderland"'
BOTH = Client("legacy", "s3cret", grants=("password", "refresh_token"))
ALONE = Client("legacy", "s3cret", grants=("password",))


@pytest.fixture
def make_legacy(make_side):
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def make(client=BOTH, **options):
        async with make_side(credential=CREDENTIAL, clients=(client,), **options) as side:
            side.server.passwords["ann"] = "wonderland"
            yield side

    return make


def sent(side):
    return [each.grant_type for each in side.server.token_requests]


async def test_the_password_is_sent_once_and_then_the_refresh_token(make_legacy):
    async with make_legacy() as side:
        account = side.account()
        served = await side.tokens.get(account)
        assert side.server.active(served.access_token.reveal()) == "ann"
        side.clock.advance(HOUR)
        assert await side.tokens.get(account) is not served
        assert sent(side) == ["password", "refresh_token"]
        assert account.state() == "valid"


async def test_without_refresh_tokens_the_password_is_sent_again(make_legacy):
    async with make_legacy() as side:
        side.server.script(faults.NAMED["no-refresh-token"], times=None)
        account = side.account()
        await side.tokens.get(account)
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert sent(side) == ["password", "password"]


@pytest.mark.parametrize("refusal", ["invalid-grant", "revoked"])
async def test_a_refused_refresh_token_is_replaced_by_the_password_in_the_same_refresh(make_legacy, refusal):
    async with make_legacy() as side:
        account = side.account()
        await side.tokens.get(account)
        if refusal == "revoked":
            side.server.revoke(account.held.token.refresh_token.reveal())
        else:
            side.server.script(faults.NAMED[refusal], grant_type="refresh_token")
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert sent(side) == ["password", "refresh_token", "password"]
        assert not account.diagnosis().text


async def test_a_refused_refresh_token_is_never_sent_again(make_legacy):
    """Not even if the password brings no new one: the token that was refused must not come back."""
    async with make_legacy() as side:
        account = side.account()
        await side.tokens.get(account)
        refused = account.held.token.refresh_token
        side.server.script(faults.NAMED["invalid-grant"], grant_type="refresh_token")
        side.server.script(faults.NAMED["no-refresh-token"], grant_type="password")
        side.clock.advance(HOUR)
        await side.tokens.get(account)
        assert account.held.token.refresh_token is None
        side.clock.advance(HOUR)
        await side.tokens.get(account)
        assert sent(side) == ["password", "refresh_token", "password", "password"]
        assert refused is not None


async def test_a_wrong_password_is_not_tried_until_the_account_is_locked(make_legacy):
    async with make_legacy() as side:
        side.server.passwords["ann"] = "another"
        account = side.account()
        with pytest.raises(Misconfigured) as caught:
            await side.tokens.get(account)
        assert "refuses the username or the password (invalid_grant)" in str(caught.value)
        assert "check username and password of credentials.crm" in str(caught.value)
        assert "wonderland" not in str(caught.value)
        for _ in range(20):
            side.clock.advance(120)
            with pytest.raises(Misconfigured):
                await side.tokens.get(account)
        assert len(sent(side)) == 1
        side.clock.advance(HOUR)
        with pytest.raises(Misconfigured):
            await side.tokens.get(account)
        assert len(sent(side)) == 2


async def test_a_corrected_password_is_tried_at_once(make_legacy, tmp_path):
    async with make_legacy() as side:
        side.server.passwords["ann"] = "another"
        with pytest.raises(Misconfigured):
            await side.tokens.get(side.account())
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace("wonderland", "another"))
        config = load(file).config
        side.tokens.use(config, side.tokens.planned(config))
        assert side.is_good(await side.tokens.get(side.account()))


async def test_tokens_of_another_person_are_never_used(make_legacy, tmp_path):
    async with make_legacy() as side:
        side.server.passwords["bob"] = "wonderland"
        await side.tokens.get(side.account())
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace('"ann"', '"bob"'))
        config = load(file).config
        side.tokens.use(config, side.tokens.planned(config))
        served = await side.tokens.get(side.account())
        assert side.server.active(served.access_token.reveal()) == "bob"


async def test_a_401_is_answered_with_the_refresh_token(make_legacy):
    async with make_legacy() as side:
        account = side.account()
        served = await side.tokens.get(account)
        better = side.tokens.reject(account, served)
        assert better is not None
        assert await better is not served
        assert sent(side) == ["password", "refresh_token"]


@pytest.mark.parametrize("name", ["drop-after-commit", "reset-after-commit"])
async def test_a_lost_response_costs_no_more_than_the_password(make_legacy, name):
    async with make_legacy() as side:
        account = side.account()
        await side.tokens.get(account)
        side.server.script(faults.NAMED[name], grant_type="refresh_token")
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))


async def test_a_refused_password_is_looked_up_again_where_it_is_from_a_command(make_legacy):
    async with make_legacy() as side:
        looked: list[str] = []
        side.tokens.look_up = looked.append
        await side.tokens.get(side.account())
        assert looked == []
        side.server.passwords["ann"] = "another"
        side.server.script(faults.NAMED["invalid-grant"], grant_type="refresh_token")
        side.clock.advance(HOUR)
        with pytest.raises(Misconfigured):
            await side.tokens.get(side.account())
        assert "crm" in looked
