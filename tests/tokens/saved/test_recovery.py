"""Stores that were emptied, or restored from a backup."""

from __future__ import annotations

from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from tests.tokens.conftest import HOUR
from tests.tokens.saved.conftest import new_seed

KEY = AccountId("crm", "default")


async def test_an_emptied_store_is_filled_again_by_a_process_that_has_the_tokens(clock, make_side):
    inner = MemoryStore(clock)
    async with make_side(store=SealedStore(inner, bytes(32))) as side:
        account = await side.log_in()
        await side.tokens.refresh_now(account)
        inner._records.clear()
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert (await side.stored()).generation == 4  # restored as 3
        assert side.server.families_revoked == 0


async def test_an_emptied_store_does_not_bring_the_seed_back_to_life(clock, server, seeded):
    inner = MemoryStore(clock)
    seed = new_seed(server)
    async with seeded(server, seed, SealedStore(inner, bytes(32))) as side:
        account = side.account()
        await side.tokens.get(account)
        inner._records.clear()
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
    assert server.families_revoked == 0


async def test_a_backup_that_is_put_back_does_not_bring_a_spent_refresh_token_back(clock, make_side):
    inner = MemoryStore(clock)
    async with make_side(store=SealedStore(inner, bytes(32))) as side:
        account = await side.log_in()
        backup = dict(inner._records)
        for _ in range(3):
            side.clock.advance(1)
            await side.tokens.refresh_now(account)
        inner._records = backup
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert side.server.families_revoked == 0


async def test_a_login_after_the_store_was_emptied_is_not_undone_by_other_processes(clock, make_side):
    inner = MemoryStore(clock)
    async with make_side(store=SealedStore(inner, bytes(32))) as side:
        account = await side.log_in()
        await side.tokens.refresh_now(account)
        inner._records.clear()
        side.clock.advance(60)
        async with make_side(server=side.server, store=side.store, started=False) as command:
            new = await command.log_in()
            served = command.tokens.ready(new)
        side.clock.advance(10)
        await side.until(lambda: side.tokens.ready(account).fields == served.fields)


async def test_a_logout_after_a_backup_was_put_back_is_final(clock, make_side):
    inner = MemoryStore(clock)
    async with make_side(store=SealedStore(inner, bytes(32))) as side:
        account = await side.log_in()
        backup = dict(inner._records)
        for _ in range(3):
            await side.tokens.refresh_now(account)
        inner._records = backup
        async with make_side(server=side.server, store=side.store, started=False) as command:
            await command.logins.log_out(KEY)
        await side.until(lambda: account.state() == "absent")
        assert (await side.stored()).state == "logged_out"
