"""The accounts that stay in memory: those that are used, not the newest."""

import random

import pytest

from proxy.store.base import AccountId
from proxy.tokens import accounts as module


@pytest.fixture(autouse=True)
def few_places(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 8)
    monkeypatch.setattr(module, "KNOWN_AT_START", 0)


BY_HEADER = 'account = { header = "Who" }'


@pytest.fixture
async def side(make_side):
    async with make_side(route=BY_HEADER, grant="refresh_token", seed="", credential=WEB) as side:
        yield side


WEB = 'grant = "authorization_code"\nclient_id = "web"'


def kept(side):
    return {account.key.account for account in side.tokens.accounts()}


async def use(side, name):
    """As a request does."""
    await side.tokens.get(side.account(name))


async def test_an_account_that_is_used_all_the_time_stays_and_idle_ones_go(side):
    await side.log_in("hot")
    side.account("hot").last_refresh = "memory of the hot one"
    for number in range(50):
        await side.log_in(f"idle{number}")
        side.clock.advance(1)
        await use(side, "hot")
        side.tokens.accounts()  # as the check for due tokens does each second
    assert "hot" in kept(side)
    assert len(kept(side)) <= module.KEPT
    assert side.account("hot").last_refresh == "memory of the hot one"


async def test_the_store_is_read_once_for_the_account_that_most_requests_name(side):
    await side.log_in("hot")
    for number in range(60):
        await side.log_in(f"cold{number}")
    reads = []
    inner = side.store.get

    async def get(key):
        reads.append(key.account)
        return await inner(key)

    side.store.get = get
    chance = random.Random(7)
    for _ in range(300):
        side.clock.advance(0.5)
        await use(side, "hot" if chance.random() < 0.67 else f"cold{chance.randrange(60)}")
        side.tokens.accounts()
    assert reads.count("hot") <= 2  # once for its own login, seen by the watch, and once for all requests


async def test_a_back_off_is_kept_as_long_as_a_use(side):
    """An unused account that has just failed is not the first to be dropped."""
    for number in range(8):
        await side.log_in(f"old{number}")
        side.clock.advance(1)
    await side.log_in("failed")
    assert "failed" in kept(side)
    assert kept(side).isdisjoint({"old0"})


async def test_every_use_of_an_account_is_noted_in_the_store(side):
    noted = {}
    inner = side.store.touch

    async def touch(used):
        noted.update(used)
        await inner(used)

    side.store.touch = touch
    names = [f"user{number}" for number in range(31)]
    for name in names:
        await side.log_in(name)
    await side.tokens.scheduler.note_uses()
    noted.clear()
    side.clock.advance(4000)
    for name in names:
        await use(side, name)
        side.clock.advance(0.1)
    await side.tokens.scheduler.note_uses()
    assert {key.account for key in noted} == set(names)
    noted.clear()
    await side.tokens.scheduler.note_uses()
    assert noted == {}
    await use(side, "user30")
    await side.tokens.scheduler.note_uses()
    assert noted == {}  # not again so soon


async def test_uses_that_could_not_be_noted_are_noted_later(side):
    from proxy.errors import StoreError

    names = [f"user{number}" for number in range(12)]
    for name in names:
        await side.log_in(name)
        await use(side, name)
    inner = side.store.touch

    async def fail(_used):
        raise StoreError("the disk is full")

    side.store.touch = fail
    with pytest.raises(StoreError):
        await side.tokens.scheduler.note_uses()
    noted = {}

    async def touch(used):
        noted.update(used)
        await inner(used)

    side.store.touch = touch
    await side.tokens.scheduler.note_uses()
    assert {AccountId("crm", name) for name in names} == noted.keys()
