"""The binding of records to client and grant, and records that can't be read."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.demo.authorization_server import Client
from proxy.errors import LoginFailed, LoginRequired, TokenUnavailable, UnreadableRecord
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from proxy.store.sqlite.store import SQLiteStore
from proxy.tokens.saved import codec
from tests.tokens.conftest import CALLBACK

HOUR = 3600
GRANTS = ("authorization_code", "refresh_token", "client_credentials")
SEAL = bytes(range(32))  # as in the fixture
STORE_OF_V1 = Path(__file__).parents[2] / "store" / "fixtures" / "v1.db"
KEY = AccountId("crm", "default")
OTHERS = {  # the configuration now, after a login as `web` at {issuer}
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
async def test_a_token_of_another_server_or_client_stays_stored_counts_as_absent_and_is_never_sent(
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
    assert side.is_good(await side.tokens.get(side.account()))  # the configuration is corrected


async def test_a_token_of_another_grant_is_never_attached(make_side):
    """A person's token must not be used for the service, nor the service's for the person."""
    clients = (Client("web", "s3cret", redirect_uris=(CALLBACK,), grants=GRANTS),)
    async with make_side(clients=clients) as side:
        await side.log_in()
        persons = side.tokens.ready(side.account())
        service = f'grant = "client_credentials"\nclient_id = "web"\nissuer = "{side.server.issuer}"'
        async with make_side(server=side.server, store=side.store, credential=service) as changed:
            account = changed.account()
            assert changed.tokens.ready(account) is None
            services = await changed.tokens.get(account)
            assert side.server.active(services.access_token.reveal()) == "web"
        async with make_side(server=side.server, store=side.store) as back:
            with pytest.raises(LoginRequired):
                await back.tokens.get(back.account())
        assert [request.grant_type for request in side.server.token_requests] == ["client_credentials"]
        assert side.server.active(persons.access_token.reveal()) == "alice"


async def test_the_tokens_of_another_client_are_not_revoked_by_a_logout(make_side, side):
    await side.log_in()
    token = await token_of(side)
    credential = OTHERS["another client"].format(issuer=side.server.issuer)
    async with make_side(server=side.server, store=side.store, credential=credential) as changed:
        await changed.logins.log_out(KEY)
    assert side.server.active(token.access_token.reveal())
    assert (await side.stored()).state == "logged_out"


async def test_a_login_replaces_the_tokens_of_another_client(make_side, side):
    await side.log_in()
    credential = OTHERS["another client"].format(issuer=side.server.issuer)
    async with make_side(server=side.server, store=side.store, credential=credential) as changed:
        account = await changed.log_in(client="other")
        assert changed.is_good(changed.tokens.ready(account))
    assert (await side.stored()).generation == 2


# -- a store of the version before


async def test_tokens_of_an_earlier_version_are_used_and_have_their_states(tmp_path, clock, make_side):
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
            with pytest.raises(TokenUnavailable, match="restore the store's key"):
                await side.tokens.get(side.account())
        assert side.account().state() == "misconfigured"
        with pytest.raises(UnreadableRecord):
            await side.log_in()
        with pytest.raises(UnreadableRecord):
            await side.tokens.forget(KEY)
    assert inner._records == before
    assert server.token_requests == []
    told = [record for record in caplog.records if getattr(record, "event", "") == "record_unreadable"]
    assert sorted(record.fields["account"] for record in told) == ["ann", "default"]  # once each
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


DAMAGES = {  # the effect of one flipped byte in a row
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
async def test_a_damaged_record_does_not_affect_other_accounts(
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
            await side.logins.begin(AccountId("crm", "ann"), browser="b")
    assert len(server.token_requests) == 1
    assert damage("used_at = used_at") == damaged
    told = [record for record in caplog.records if getattr(record, "event", "") == "record_unreadable"]
    assert [record.fields for record in told] == [{"credential": "crm", "account": "ann"}]


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


async def test_a_process_with_a_newer_generation_than_a_damaged_record_forgets_it_at_once(
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
