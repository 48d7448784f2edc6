"""Whose tokens a record holds, the refresh token of the configuration, and stores that lose what they had."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.errors import LoginFailed, LoginRequired, Misconfigured, TokenUnavailable, UnreadableRecord
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.store.sqlite.store import SQLiteStore
from proxy.tokens.saved import codec
from proxy.tokens.saved.records import fingerprint

HOUR = 3600
SEAL = bytes(range(32))  # as the fixture was made with
STORE_OF_V1 = Path(__file__).parents[2] / "store" / "fixtures" / "v1.db"
KEY = AccountId("crm", "default")
OTHERS = {  # what the configuration says now, after a login as `web` at {issuer}
    "another client": 'client_id = "other"\nissuer = "{issuer}"',
    "another server": 'client_id = "web"\nissuer = "http://127.0.0.1:1"',
    "the endpoints by hand": """client_id = "web"
        token_endpoint = "{issuer}/token"
        authorization_endpoint = "{issuer}/authorize" """,
}


async def token_of(side):
    return codec.decode((await side.stored()).body)


def sent(side) -> list[str]:
    return [request.refresh_token for request in side.refreshes]


# -- binding


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_a_token_of_another_server_or_client_is_kept_counts_as_absent_and_is_never_sent(
    make_side, side, other
):
    await side.log_in()
    record = await side.stored()
    credential = other.format(issuer=side.server.issuer)
    side.clock.advance(HOUR)
    async with (
        make_side(server=side.server, store=side.store, credential=credential) as changed,
        changed.kept_fresh(),
    ):
        account = changed.account()
        assert account.state() == "absent"
        assert changed.tokens.ready(account) is None
        with pytest.raises(LoginRequired):
            await changed.tokens.get(account)
        with pytest.raises(LoginRequired):
            await changed.tokens.refresh_now(account)
        assert [health.expires_at for health in changed.tokens.health()] == [None]
    assert side.server.token_requests == []
    assert await side.stored() == record
    assert side.is_good(await side.tokens.get(side.account()))  # the configuration is mended


async def test_the_tokens_of_another_client_are_not_revoked_by_a_logout(make_side, side):
    await side.log_in()
    token = await token_of(side)
    credential = OTHERS["another client"].format(issuer=side.server.issuer)
    async with make_side(server=side.server, store=side.store, credential=credential) as changed:
        await changed.logins.log_out(KEY)
    assert side.server.active(token.access_token.reveal())
    assert (await side.stored()).state == "logged_out"


async def test_a_login_replaces_what_another_client_left(make_side, side):
    await side.log_in()
    credential = OTHERS["another client"].format(issuer=side.server.issuer)
    async with make_side(server=side.server, store=side.store, credential=credential) as changed:
        account = await changed.log_in(client="other")
        assert changed.is_good(changed.tokens.ready(account))
    assert (await side.stored()).generation == 2


# -- the refresh token of the configuration


@pytest.fixture
def seeded(make_side, make_server):
    """`seeded(server, seed, store)`: a process whose configuration gives this refresh token."""

    def make(server, seed, store, **more):
        return make_side(grant="refresh_token", server=server, seed=seed, store=store, **more)

    return make


@pytest.fixture
async def server(make_server):
    async with make_server() as made:
        yield made


@pytest.fixture
def store(clock):
    return SealedStore(MemoryStore(clock), bytes(32))


def new_seed(server) -> str:
    return server.issue("web", "alice")["refresh_token"]


async def test_a_seed_is_used_once_and_then_the_store_wins(server, store, seeded):
    seed = new_seed(server)
    for _ in range(3):
        async with seeded(server, seed, store) as side:
            assert side.is_good(await side.tokens.get(side.account()))
            side.clock.advance(HOUR)
            assert side.is_good(await side.tokens.get(side.account()))
    assert sent(side)[0] == fingerprint_of(seed)
    assert len(sent(side)) == len(set(sent(side))) == 4  # after a restart the last access token still serves
    assert server.families_revoked == 0


def fingerprint_of(text: str) -> str:
    return fingerprint(Secret(text))


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


async def test_a_store_that_cannot_take_the_seed_holds_up_nobody(server, faulty_store, seeded):
    faulty_store.failing = {"put"}
    async with seeded(server, new_seed(server), faulty_store) as side:
        with pytest.raises(TokenUnavailable, match="the token store can't be read now"):
            await side.tokens.get(side.account())
        faulty_store.failing = set()
        assert side.is_good(await side.tokens.get(side.account()))


# -- a store that was emptied, or put back from a backup


async def test_a_store_that_was_emptied_is_filled_again_by_who_still_holds_the_tokens(clock, make_side):
    inner = MemoryStore(clock)
    async with make_side(store=SealedStore(inner, bytes(32))) as side:
        account = await side.log_in()
        await side.tokens.refresh_now(account)
        inner._records.clear()
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(account))
        assert (await side.stored()).generation == 4  # put back as 3
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


async def test_a_login_after_the_store_was_emptied_is_not_undone_by_what_others_remember(clock, make_side):
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


# -- a store of the version before


async def test_tokens_that_the_version_before_saved_are_served_and_known_in_their_states(
    tmp_path, clock, make_side
):
    shutil.copyfile(STORE_OF_V1, tmp_path / "tokens.db")
    store = SealedStore(await SQLiteStore.open(tmp_path / "tokens.db", clock), SEAL)
    credential = 'grant = "authorization_code"\nclient_id = "web"\nissuer = "https://login.example"'
    async with make_side(credential=credential, store=store) as side:
        for name in ("ann", "bob"):
            served = await side.tokens.get(side.account(name))
            assert served.access_token.reveal() == f"access-of-{name}"
        accounts = [side.account(name) for name in ("ann", "bob", "cid", "dan")]
        assert [account.state() for account in accounts] == ["valid", "valid", "login_required", "absent"]
        assert [account.held.generation for account in accounts] == [1, 7, 3, 2]
        assert [account.in_doubt for account in accounts] == [False, True, False, False]
        assert side.account("bob").held.token.refresh_token == Secret("refresh-of-bob")
    await store.close()


# -- records that the key does not open


async def test_a_record_that_the_key_does_not_open_is_never_overwritten(clock, server, make_side, caplog):
    inner = MemoryStore(clock)
    store, wrong_key = SealedStore(inner, bytes(32)), SealedStore(inner, b"\1" * 32)
    async with make_side(server=server, store=store) as side:
        await side.log_in()
        await side.log_in("ann")
    before = dict(inner._records)
    clock.advance(HOUR)
    async with make_side(server=server, store=wrong_key) as side, side.kept_fresh():
        for _ in range(10):
            with pytest.raises(TokenUnavailable, match="put the store's key back"):
                await side.tokens.get(side.account())
        assert side.account().state() == "misconfigured"
        with pytest.raises(UnreadableRecord):
            await side.log_in()
        with pytest.raises(UnreadableRecord):
            await side.tokens.forget(KEY)
    assert inner._records == before
    assert server.token_requests == []
    assert (
        sum("crm/default" in record.getMessage() for record in caplog.records) == 1
    )  # not with each request
    async with make_side(server=server, store=store) as side:
        assert side.is_good(await side.tokens.get(side.account()))


async def test_logging_out_twice_and_of_nothing_is_no_trouble(side):
    await side.logins.log_out(KEY)
    assert await side.stored() is None
    await side.log_in()
    await side.logins.log_out(KEY)
    tombstone = await side.stored()
    await side.logins.log_out(KEY)
    assert await side.stored() == tombstone
    assert (tombstone.generation, tombstone.state, tombstone.due_at) == (2, "logged_out", None)
    token = codec.decode(tombstone.body)
    assert (token.access_token, token.refresh_token) == (None, None)
    await side.log_in()
    assert (await side.stored()).generation == 3


DAMAGES = {  # what one flipped byte makes of a row
    "its body": "body = CAST(substr(body, 1, 60) || x'00' || substr(body, 62) AS BLOB)",
    "its intent": "intent = x'00'",
    "its generation": "generation = 3",
    "its state": "state = 'vaLid'",
    "its state, beyond text": "state = CAST(x'ff616c6964' AS TEXT)",
}


@pytest.fixture
def damage(tmp_path):
    """`damage(how)`: to the record of the account `ann`."""

    def damage(how):
        with closing(sqlite3.connect(tmp_path / "tokens.db", isolation_level=None)) as db:
            db.execute(f"UPDATE tokens SET {how}, changed = changed WHERE account = 'ann'")
            db.text_factory = bytes
            return db.execute("SELECT * FROM tokens WHERE account = 'ann'").fetchall()

    return damage


@pytest.mark.parametrize("how", DAMAGES)
async def test_a_damaged_record_keeps_nobody_elses_tokens_from_being_served_refreshed_and_saved(
    server, make_side, open_sqlite, damage, caplog, how
):
    async with make_side(server=server, store=await open_sqlite()) as side:
        for name in ("ann", "bob"):
            await side.log_in(name)
    damaged = damage(DAMAGES[how])
    async with make_side(server=server, store=await open_sqlite()) as side, side.kept_fresh():
        with pytest.raises(TokenUnavailable, match="its record in the store can't be read"):
            await side.tokens.get(side.account("ann"))
        assert side.account("ann").state() == "misconfigured"
        assert side.is_good(await side.tokens.get(side.account("bob")))
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(side.account("bob")))
        assert (await side.stored("bob")).generation == 2
        with pytest.raises(LoginFailed, match="log out, which sets them aside"):
            await side.logins.begin(AccountId("crm", "ann"), browser="")
    assert len(server.token_requests) == 1
    assert damage("used_at = used_at") == damaged
    assert sum("the tokens of crm/ann are damaged" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("how", DAMAGES)
async def test_a_logout_sets_a_damaged_record_aside_for_everybody_and_a_login_follows(
    tmp_path, make_side, open_sqlite, damage, how
):
    async with make_side(store=await open_sqlite()) as side:
        for name in ("ann", "bob"):
            await side.log_in(name)
        damaged = damage(DAMAGES[how])
        async with make_side(server=side.server, store=await open_sqlite(), started=False) as command:
            await command.logins.log_out(AccountId("crm", "ann"))
        await side.until(lambda: side.account("ann").state() == "absent")
        with pytest.raises(LoginRequired):
            await side.tokens.get(side.account("ann"))
        assert (await side.stored("ann")).state == "logged_out"
        await side.log_in("ann")
        assert side.is_good(await side.tokens.get(side.account("ann")))
        side.clock.advance(HOUR)
        assert side.is_good(await side.tokens.get(side.account("ann")))
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as db:
        db.text_factory = bytes
        assert db.execute("SELECT body, intent, state FROM quarantine").fetchall() == [
            (row[6], row[7], row[3]) for row in damaged
        ]


async def test_who_holds_a_newer_generation_than_a_damaged_record_says_forgets_it_at_once(
    make_side, open_sqlite, damage
):
    async with make_side(store=await open_sqlite()) as side:
        account = await side.log_in("ann")
        for _ in range(3):
            await side.tokens.refresh_now(account)
        damage("generation = 2")
        await side.logins.log_out(account.key)
        assert side.tokens.ready(account) is None
        assert (await side.stored("ann")).generation == 5
