"""PostgresStore beyond the contract: a failing server causes errors, but never loses a token."""

from __future__ import annotations

import asyncio
import logging
import random
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import trustme
import uvloop
from psycopg import sql

from proxy.errors import GenerationConflict, StoreError, UnreadableRecord
from proxy.secret import Secret
from proxy.store.base import AccountId, Record
from proxy.store.open import open_store
from proxy.store.postgres import statements
from proxy.store.postgres.link import CONNECTIONS, LIMIT, Link, read_url
from proxy.store.postgres.schema import MIGRATIONS, prepare
from proxy.store.postgres.store import PostgresStore
from tests.patience import within
from tests.servers.postgres import PASSWORD, USER, Postgres
from tests.store import writer

ANN, BOB = AccountId("crm", "ann"), AccountId("crm", "bob")
LEASE = 2.0  # seconds
RENEW_EVERY = 0.6  # seconds, a third of it, as in proxy/tokens/refresh/lease.py
MakeRecord = Callable[..., Record]


@asynccontextmanager
async def opened(url: str, count: int = 1) -> AsyncIterator[list[PostgresStore]]:
    stores = [await PostgresStore.open(url) for _ in range(count)]
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    async with opened(postgres_url) as (store,):
        yield store


@contextmanager
def holding(url: str, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """Another program's transaction, in which `statement` has run."""
    with psycopg.connect(url) as connection:
        connection.execute(statement)
        yield connection


async def until_told(
    changes: AsyncIterator[AccountId | None], *wanted: AccountId | None, seconds: float = 1
) -> None:
    async with asyncio.timeout(seconds):
        while await anext(changes) not in wanted:
            pass


async def until_it_answers(store: PostgresStore) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await store.identity()
            except StoreError:
                await asyncio.sleep(0.02)
            else:
                return


# -- the tables


async def test_processes_that_open_an_empty_database_at_once_share_one_store(postgres_url: str) -> None:
    stores = await asyncio.gather(*(PostgresStore.open(postgres_url) for _ in range(12)))
    identities = {await store.identity() for store in stores}
    for store in stores:
        await store.close()
    assert len(identities) == 1


async def test_tables_of_a_newer_version_are_refused_and_left_unchanged(
    postgres: Postgres, postgres_url: str
) -> None:
    async with opened(postgres_url):
        postgres.execute("UPDATE token_proxy.meta SET version = 7", url=postgres_url)
    with pytest.raises(
        StoreError, match=r"a newer version .* \(schema 7; this one knows 1\): use that version"
    ):
        await PostgresStore.open(postgres_url)
    assert postgres.execute("SELECT version FROM token_proxy.meta", url=postgres_url) == [(7,)]


async def test_a_migration_runs_once_and_keeps_a_copy(
    postgres: Postgres, postgres_url: str, store: PostgresStore, record: MakeRecord
) -> None:
    await store.put(record(body=b"old"), expected=0)
    identity = await store.identity()
    second = sql.SQL("ALTER TABLE {schema}.tokens DROP COLUMN body, ADD COLUMN note text")
    server = read_url(postgres_url)

    async def migrate() -> None:
        link = await Link.open(server)
        await prepare(link, server, (*MIGRATIONS, second))
        await link.close()

    await asyncio.gather(*(migrate() for _ in range(4)))
    assert postgres.execute("SELECT * FROM token_proxy.meta", url=postgres_url) == [(2, identity)]
    kept = postgres.execute("SELECT account, body FROM token_proxy.tokens_before_2", url=postgres_url)
    assert kept == [("ann", b"old")]


async def test_a_migration_that_fails_changes_nothing(postgres: Postgres, postgres_url: str) -> None:
    server = read_url(postgres_url)
    async with opened(postgres_url):
        link = await Link.open(server)
        with pytest.raises(StoreError, match="SQLSTATE 22012"):
            await prepare(link, server, (*MIGRATIONS, sql.SQL("DROP TABLE {schema}.tokens; SELECT 1/0")))
        await link.close()
    async with opened(postgres_url) as (store,):
        assert await store.page(None, 10) == []


async def test_the_url_may_name_the_schema(postgres: Postgres, postgres_url: str, record: MakeRecord) -> None:
    elsewhere = f"{postgres_url}?options=-csearch_path%3Dteam_a"
    async with opened(postgres_url) as (one,), opened(elsewhere) as (other,):
        changes = other.changes()
        await one.put(record(), expected=0)
        assert await other.get(ANN) is None
        await other.put(record("bob"), expected=0)
        assert await anext(changes) == BOB
        assert await one.identity() != await other.identity()


QUESTIONS = {
    "get": (statements.GET, ANN),
    "page": (statements.PAGE, ("crm", "a7", 10)),
    "outlines": (statements.OUTLINES, ("crm", "a7", 10)),
    "get_many": (statements.GET_MANY, (["crm", "crm"], ["a7", "a8"])),
    "due_before": (statements.DUE, (["crm"], 50.0, 10)),
    "put": (statements.PUT_NEXT, dict.fromkeys(["credential", "account", "state", "body"], "x")),
    "touch": (statements.TOUCH, (["crm"], ["a7"], [1.0])),
    "changes": (statements.LOOK, {"seen": "90000000:90000000:"}),
}
NUMBERS = dict.fromkeys(["generation", "due_at", "expires_at", "used_at", "expected"], 1)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_no_query_reads_all_records(
    postgres: Postgres, postgres_url: str, store: PostgresStore, question: str
) -> None:
    postgres.execute(
        """INSERT INTO token_proxy.tokens (credential, account, generation, state, due_at, body)
        SELECT 'crm', 'a' || n, 1, 'valid', n, 'x' FROM generate_series(1, 5000) AS n""",
        url=postgres_url,
    )
    postgres.execute("ANALYZE", url=postgres_url)
    statement, values = QUESTIONS[question]
    explained = statement._replace(sql=f"EXPLAIN {statement.sql}")
    values = {**NUMBERS, **values} if isinstance(values, dict) else values
    plan = "\n".join(row for (row,) in await store._ask(explained, values))
    assert "Index" in plan
    assert "Seq Scan on tokens" not in plan


# -- puts by other processes


@pytest.mark.parametrize("notified", [True, False], ids=["notified", "as through a pgbouncer"])
async def test_a_put_of_another_process_is_delivered_within_a_second(
    postgres: Postgres, postgres_url: str, store: PostgresStore, notified: bool
) -> None:
    if not notified:
        assert store._watch._link
        await store._watch._link._connection.execute("UNLISTEN *")
    changes = store.changes()
    command = [sys.executable, writer.__file__, postgres_url, "count", "1"]
    process = await asyncio.create_subprocess_exec(*command, env={"PYTHONPATH": ":".join(sys.path)})
    await until_told(changes, ANN, seconds=30)  # it has to start first
    told_at = time.time()
    await process.wait()
    query = "SELECT pg_xact_commit_timestamp(xmin) FROM token_proxy.tokens"
    ((put_at,),) = postgres.execute(query, url=postgres_url)
    assert told_at - put_at.timestamp() < 1


async def test_a_put_that_becomes_visible_late_is_delivered(
    postgres_url: str, store: PostgresStore, record: MakeRecord
) -> None:
    changes = store.changes()
    slow = """INSERT INTO token_proxy.tokens (credential, account, generation, state, body)
        VALUES ('crm', 'ann', 1, 'valid', '')"""
    with holding(postgres_url, slow) as other:
        await store.put(record("bob"), expected=0)
        async with within(1):
            assert await anext(changes) == BOB
        await asyncio.sleep(0.6)  # two looks
        other.commit()
        async with within(1):
            assert await anext(changes) == ANN  # and bob is not told again


async def test_changes_go_on_when_the_connection_is_lost(
    postgres: Postgres, postgres_url: str, store: PostgresStore, record: MakeRecord
) -> None:
    changes = store.changes()
    async with opened(postgres_url) as (other,):
        await disconnect_all(postgres, postgres_url)
        await other.put(record("ann"), expected=0)
        await until_told(changes, None, ANN, seconds=5)
        await other.put(record("bob"), expected=0)
        await until_told(changes, BOB)


async def test_changes_wait_while_the_server_is_down_and_log_it_once(
    postgres: Postgres, store: PostgresStore, record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    changes = store.changes()
    watching = asyncio.create_task(anext(changes))
    with caplog.at_level(logging.ERROR, "proxy"):
        await asyncio.to_thread(postgres.stop, "immediate")
        done, _ = await asyncio.wait({watching}, timeout=2)
        postgres.start()
    assert not done
    (line,) = caplog.messages
    assert line.startswith(
        "changes by other processes can't be seen now: token store postgresql://127.0.0.1:"
    )
    async with asyncio.timeout(60):
        assert await watching is None
    await store.put(record(), expected=0)
    await until_told(changes, ANN)


# -- a server that is restarted, killed or suspended


async def disconnect_all(postgres: Postgres, url: str) -> None:
    query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() "
    await asyncio.to_thread(postgres.execute, query + "AND pid <> pg_backend_pid()", url=url)


async def test_idle_connections_that_the_server_has_ended_are_not_used(
    postgres: Postgres, postgres_url: str, store: PostgresStore
) -> None:
    await asyncio.gather(*(store.get(ANN) for _ in range(20)))
    await disconnect_all(postgres, postgres_url)
    await asyncio.gather(*(store.get(ANN) for _ in range(20)))


async def keep_putting(store: PostgresStore, key: AccountId, saved: dict[AccountId, int]) -> None:
    """Put one generation after the other, despite errors; record the last one in `saved`."""
    while True:
        record = Record(key, saved[key] + 1, "valid", None, None, b"")
        try:
            await store.put(record, expected=saved[key])
        except GenerationConflict:
            pass  # the response was lost, but not the put
        except StoreError:
            await asyncio.sleep(0.01)
            continue
        saved[key] = record.generation


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
async def test_confirmed_puts_survive_restarts_in_the_middle_of_calls(
    postgres: Postgres, postgres_url: str, how: str
) -> None:
    postgres.execute(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET synchronous_commit TO off")
    stop = {"fast": postgres.stop, "immediate": partial(postgres.stop, "immediate"), "kill": postgres.kill}
    saved = dict.fromkeys([AccountId("crm", f"a{number}") for number in range(8)], 0)
    async with opened(postgres_url) as (store,):
        putting = [asyncio.create_task(keep_putting(store, key, saved)) for key in saved]
        for _ in range(3):
            before = dict(saved)
            async with asyncio.timeout(60):
                while any(saved[key] < before[key] + 3 for key in saved):
                    await asyncio.sleep(random.uniform(0.01, 0.1))
            await asyncio.to_thread(stop[how])
            await asyncio.to_thread(postgres.start)
        for task in putting:
            task.cancel()
        await asyncio.wait(putting)
        await until_it_answers(store)
        for key, generation in saved.items():
            held = await store.get(key)
            assert held
            assert held.generation in {generation, generation + 1}


async def renewing(store: PostgresStore) -> None:
    """A holder that renews its lease, and whose calls may fail."""
    while True:
        await asyncio.sleep(RENEW_EVERY)
        try:
            assert await store.renew("x", "holder", LEASE)
        except StoreError:
            continue


async def waiting(store: PostgresStore) -> str:
    """A newcomer that asks until it has the lease."""
    while True:
        try:
            if not await store.lease("x", "newcomer", LEASE):
                return "newcomer"
        except StoreError:
            pass
        await asyncio.sleep(0.05)


async def stand_still(postgres: Postgres) -> None:
    await asyncio.to_thread(postgres.pause)
    await asyncio.sleep(LEASE + 0.5)
    postgres.resume()


async def be_away(postgres: Postgres) -> None:
    await asyncio.to_thread(postgres.stop, "immediate")
    await asyncio.sleep(LEASE + 0.5)
    await asyncio.to_thread(postgres.start)


async def be_restarted(postgres: Postgres) -> None:
    for _ in range(3):
        await asyncio.to_thread(postgres.stop, "fast")
        await asyncio.to_thread(postgres.start)
        await asyncio.sleep(0.3)


TROUBLES = [stand_still, be_away, be_restarted]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_live_holder_keeps_its_lease_through(
    postgres: Postgres, postgres_url: str, trouble: Callable[..., Any]
) -> None:
    async with opened(postgres_url, 3) as (one, *others):
        await one.lease("x", "holder", LEASE)
        holder = asyncio.create_task(renewing(one))
        newcomers = [asyncio.create_task(waiting(other)) for other in others]
        await asyncio.sleep(LEASE + 0.5)
        await trouble(postgres)
        done, _ = await asyncio.wait({holder, *newcomers}, timeout=LEASE + 1)
        for task in (holder, *newcomers):
            task.cancel()
        assert not done


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_the_lease_of_a_dead_holder_is_granted_one_length_after(
    postgres: Postgres, postgres_url: str, trouble: Callable[..., Any]
) -> None:
    async with opened(postgres_url, 2) as (one, other):
        await one.lease("x", "holder", LEASE)
        newcomer = asyncio.create_task(waiting(other))
        await trouble(postgres)
        async with asyncio.timeout(60):
            assert await newcomer == "newcomer"


async def test_the_first_user_after_a_pause_waits_for_leases_that_were_not_released(
    postgres_url: str,
) -> None:
    async with opened(postgres_url) as (store,):
        await store.lease("x", "holder", 0.1)
        await store.lease("y", "holder", 0.1)
        await store.release("y", "holder")
    await asyncio.sleep(0.2)
    async with opened(postgres_url) as (store,):
        assert await store.lease("x", "newcomer", LEASE) == "holder"
        assert await store.lease("y", "newcomer", LEASE) is None
        assert await store.lease("x", "newcomer", LEASE, succeed="holder") is None


async def test_a_suspended_server_is_an_error_until_it_resumes(
    postgres: Postgres, postgres_url: str, record: MakeRecord
) -> None:
    async with opened(postgres_url, 2) as (store, unused):
        await store.put(record("ann"), expected=0)
        postgres.pause()
        begun = time.monotonic()
        calls = [*(store.get(ANN) for _ in range(3 * CONNECTIONS)), unused.get(ANN)]  # the last must connect
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        took = time.monotonic() - begun
        postgres.resume()
        assert took < 2 * LIMIT
        assert {str(outcome).partition(": ")[2] for outcome in outcomes} == {
            "no response from the server within 5 seconds: check its load and the network"
        }
        await until_it_answers(store)
        assert await store.get(ANN) == record("ann")


async def test_a_store_closes_at_once_despite_a_suspended_server(
    postgres: Postgres, postgres_url: str
) -> None:
    store = await PostgresStore.open(postgres_url)
    postgres.pause()
    try:
        await asyncio.sleep(0.5)  # until a look is under way
        async with asyncio.timeout(LIMIT / 2):
            await store.close()
    finally:
        postgres.resume()
    await store.close()
    with pytest.raises(StoreError, match="it is closed"):
        await store.get(ANN)


# -- callers that are cancelled


async def test_a_cancelled_put_is_complete_or_not_started(
    postgres_url: str, store: PostgresStore, record: MakeRecord
) -> None:
    await store.put(record("ann"), expected=0)
    with holding(postgres_url, "LOCK TABLE token_proxy.tokens"):
        first = [record(f"first-{number}") for number in range(CONNECTIONS)]
        late = [record(f"late-{number}") for number in range(CONNECTIONS)]
        puts = [asyncio.create_task(store.put(each, expected=0)) for each in (*first, *late)]
        await asyncio.sleep(0.5)  # the first ones wait for the lock, the others for a connection
        for put in puts:
            put.cancel()
        await asyncio.wait(puts)
    await asyncio.wait(store._pool._calls)
    assert [each.key.account for each in await store.page(None, 20)] == [
        "ann",
        *(each.key.account for each in first),
    ]


async def test_a_thousand_cancelled_calls_leak_no_connection(
    postgres: Postgres, postgres_url: str, store: PostgresStore, record: MakeRecord
) -> None:
    await store.put(record(), expected=0)
    calls: list[Callable[[], Any]] = [
        lambda: store.get(ANN),
        lambda: store.lease("x", "me", 3),
        lambda: store.touch({ANN: 5.0}),
        lambda: store.intend(ANN, 1, b"sent"),
    ]
    for _ in range(250):
        tasks = [asyncio.create_task(call()) for call in calls]
        await asyncio.sleep(random.uniform(0, 0.003))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert (
        await asyncio.gather(*(store.get(ANN) for _ in range(20)))
        == [record(intent=b"sent", used_at=5.0)] * 20
    )
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    ((connections,),) = postgres.execute(query, url=postgres_url)
    assert connections <= CONNECTIONS + 1 + 1  # the store's, its watch's, this one


async def test_a_call_waiting_for_a_connection_fails_when_the_store_is_closed(
    postgres: Postgres, postgres_url: str, record: MakeRecord
) -> None:
    store = await PostgresStore.open(postgres_url)
    puts = [asyncio.create_task(store.put(record(f"a{n}"), expected=0)) for n in range(5 * CONNECTIONS)]
    await asyncio.sleep(0)
    await store.close()
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    saved = outcomes.count(None)
    assert saved == postgres.execute("SELECT count(*) FROM token_proxy.tokens", url=postgres_url)[0][0]
    assert {str(outcome).rpartition(": ")[0][-12:] for outcome in outcomes if outcome} == {"it is closed"}


# -- what libpq can do


async def test_the_password_may_come_from_elsewhere(
    postgres_url: str, tmp_path: Path, monkeypatch: Any
) -> None:
    url = postgres_url.replace(f":{PASSWORD}@", "@")
    with pytest.raises(StoreError, match="no password supplied"):
        await PostgresStore.open(url)
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:{USER}:{PASSWORD}\n")
    file.chmod(0o600)
    async with opened(f"{url}?passfile={quote(str(file))}"):
        pass
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    async with opened(url):
        pass


async def test_tls_as_the_url_configures_it(
    postgres: Postgres, postgres_url: str, tmp_path: Path, record: MakeRecord
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    url = f"{postgres_url}?sslmode=verify-full&sslrootcert={quote(str(tmp_path))}/"
    with postgres.tls(authority.issue_cert("127.0.0.1")):
        async with opened(f"{url}ca.pem") as (store,):
            changes = store.changes()
            await store.put(record(), expected=0)
            await until_told(changes, ANN)
            query = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
            used = "WHERE application_name = 'token-proxy'"
            assert postgres.execute(query + used, url=postgres_url) == [(True,)]
        with pytest.raises(StoreError, match="certificate verify failed"):
            await PostgresStore.open(f"{url}stranger.pem")


# -- error messages with remedies


def with_password(url: str) -> str:
    return url.replace(PASSWORD, "wr0ng%25marker")


WRONG: dict[str, tuple[Callable[[str], str], str]] = {
    "password": (with_password, 'password authentication failed for user "tester"'),
    "user": (lambda url: url.replace(USER, "nobody"), "password authentication failed for user"),
    "database": (lambda url: url + "x", r'database "test_\d+x" does not exist'),
    "host": (lambda url: f"postgresql://u:hunter2@{'long' * 20}.example/db", "label"),
    "port": (lambda url: "postgresql://u:hunter2@127.0.0.1:1/db", "Connection refused"),
    "tls": (lambda url: url + "?sslmode=require", "does not support SSL"),
    "option": (lambda url: url + "?sslmode=hunter2", "***"),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_an_unusable_server_is_reported_without_the_password_for_a_wrong(
    postgres_url: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, words = WRONG[kind]
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreError) as error:
        await PostgresStore.open(change(postgres_url))
    told = "".join(traceback.format_exception(error.value)) + caplog.text
    assert str(error.value).startswith("token store postgresql://")
    assert str(error.value).endswith(
        ": check that the server runs, and the host, user, password and database"
    )
    assert words == "***" or error.match(words)
    assert "hunter2" not in told
    assert "wr0ng" not in told


@pytest.mark.parametrize(
    "rest",
    [
        "u:pa@hunter2@h/db",
        "u:hunter2/x@h/db",
        "u:x/hunter2@h/db",
        "u:hunter2%zz@h/db",
    ],
)
async def test_an_invalid_url_is_not_repeated(rest: str) -> None:
    with pytest.raises(
        StoreError, match=r"^store\.url is invalid: expected postgresql:.* letters and digits$"
    ) as error:
        await PostgresStore.open(f"postgresql://{rest}")
    assert "hunter2" not in "".join(traceback.format_exception(error.value))


CODES = {
    "53100": "the server's disk is full: free some space there (SQLSTATE 53100)",
    "53200": "the server lacks resources: see its log (SQLSTATE 53200)",
    "58030": "the server's disk failed: see its log (SQLSTATE 58030)",
    "XX001": "the server found damage: see its log (SQLSTATE XX001)",
    "40P01": "too many concurrent writes: try again (SQLSTATE 40P01)",
    "22012": "see the code, and the server's log (SQLSTATE 22012)",
}


@pytest.mark.parametrize("code", CODES)
async def test_an_error_of_the_server_is_reported_and_the_old_record_stays(
    postgres: Postgres, postgres_url: str, store: PostgresStore, record: MakeRecord, code: str
) -> None:
    await store.put(record(), expected=0)
    postgres.execute(
        f"""CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'hunter2' USING ERRCODE = '{code}'; END $$;
        CREATE TRIGGER fail BEFORE UPDATE ON token_proxy.tokens EXECUTE FUNCTION fail()""",
        url=postgres_url,
    )
    with pytest.raises(StoreError) as error:
        await store.put(record(generation=2), expected=1)
    assert str(error.value).endswith(f": {CODES[code]}")
    assert "hunter2" not in str(error.value)
    assert await store.get(ANN) == record()


async def test_a_missing_right_is_reported(postgres: Postgres, postgres_url: str) -> None:
    async with opened(postgres_url):
        postgres.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'", url=postgres_url)
    try:
        with pytest.raises(StoreError, match=r"this user lacks a right: let it own .* \(SQLSTATE 42501\)"):
            await PostgresStore.open(postgres_url.replace(USER, "reader"))
    finally:
        postgres.execute("DROP ROLE reader")


async def test_owning_the_schema_is_enough_for_a_store(
    postgres: Postgres, postgres_url: str, record: MakeRecord
) -> None:
    database = postgres_url.rpartition("/")[2]
    postgres.execute(f"CREATE ROLE owner LOGIN PASSWORD '{PASSWORD}'", url=postgres_url)
    try:
        with pytest.raises(StoreError, match="this user lacks a right"):
            await PostgresStore.open(postgres_url.replace(USER, "owner"))
        postgres.execute("CREATE SCHEMA token_proxy AUTHORIZATION owner", url=postgres_url)
        async with opened(postgres_url.replace(USER, "owner")) as (store,):
            await store.put(record(), expected=0)
    finally:
        postgres.execute(f"DROP DATABASE {database} WITH (FORCE)")
        postgres.execute(f"CREATE DATABASE {database}")
        postgres.execute("DROP ROLE owner")


async def test_a_read_only_database_is_reported(
    postgres: Postgres, postgres_url: str, record: MakeRecord
) -> None:
    async with opened(postgres_url):
        database = postgres_url.rpartition("/")[2]
        postgres.execute(f"ALTER DATABASE {database} SET default_transaction_read_only TO on")
    async with opened(postgres_url) as (store,):
        with pytest.raises(StoreError, match="it is read-only: name the primary server, not a standby"):
            await store.put(record(), expected=0)


async def test_a_standby_is_refused(tmp_path_factory: Any, postgres: Postgres, postgres_url: str) -> None:
    async with opened(postgres_url):
        pass
    signal = postgres._data / "standby.signal"
    postgres.stop()
    signal.touch()
    try:
        postgres.start()
        with pytest.raises(StoreError, match="it is a standby, which can't be written: name the primary"):
            await PostgresStore.open(postgres_url)
    finally:
        postgres.stop()
        signal.unlink(missing_ok=True)
        postgres.start()


async def test_a_lock_of_another_program_is_reported(
    postgres_url: str, store: PostgresStore, record: MakeRecord
) -> None:
    with (
        holding(postgres_url, "LOCK TABLE token_proxy.tokens"),
        pytest.raises(
            StoreError, match=r"the server was too slow: check its load, and locks .* \(SQLSTATE 57014\)"
        ),
    ):
        await store.put(record(), expected=0)
    await store.put(record(), expected=0)


async def test_settings_of_the_database_change_nothing(
    postgres: Postgres, postgres_url: str, record: MakeRecord
) -> None:
    database = postgres_url.rpartition("/")[2]
    for setting in (
        "default_transaction_isolation TO 'serializable'",
        "datestyle TO 'SQL'",
        "timezone TO 'Asia/Tokyo'",
        "bytea_output TO 'escape'",
        "client_encoding TO 'LATIN1'",
        "extra_float_digits TO 0",
    ):
        postgres.execute(f"ALTER DATABASE {database} SET {setting}")
    async with opened(postgres_url, 2) as stores:
        saved = record(body=bytes(range(256)), due_at=1_800_000_000.123456, used_at=0.1)
        puts = [store.put(saved, expected=0) for _ in range(10) for store in stores]
        outcomes = await asyncio.gather(*puts, return_exceptions=True)
        assert sum(isinstance(outcome, GenerationConflict) for outcome in outcomes) == 19
        assert await stores[0].get(ANN) == saved


async def test_a_record_sealed_with_another_key_is_reported_and_not_overwritten(
    postgres: Postgres, postgres_url: str, tmp_path: Path, record: MakeRecord
) -> None:
    def key(letter: str) -> Secret:
        return Secret(letter * 42 + "A=")

    mine = await open_store(postgres_url, tmp_path, key("B"), None)
    other = await open_store(postgres_url, tmp_path, key("C"), None)
    await mine.put(record(body=b"marker"), expected=0)
    query = "SELECT * FROM token_proxy.tokens"
    before = postgres.execute(query, url=postgres_url)
    for attempt in (other.get(ANN), other.put(record(generation=2), expected=1), other.intend(ANN, 1, b"x")):
        with pytest.raises(
            UnreadableRecord, match="tokens of crm/ann are damaged or were sealed with another"
        ):
            await attempt
    assert postgres.execute(query, url=postgres_url) == before
    assert b"marker" not in before[0][6]
    await mine.close()
    await other.close()


async def test_it_needs_a_key_and_its_client(postgres_url: str, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(StoreError, match=r"store\.key is missing"):
        await open_store(postgres_url, tmp_path, None, None)
    monkeypatch.setitem(sys.modules, "proxy.store.postgres.store", None)  # as if it could not be imported
    with pytest.raises(StoreError, match=r"not installed: pip install 'token-proxy\[postgres\]'"):
        await open_store(postgres_url, tmp_path, Secret("A" * 43 + "="), None)


def test_it_works_on_the_event_loop_of_the_command(postgres_url: str, record: MakeRecord) -> None:
    async def use() -> None:
        async with opened(postgres_url, 2) as (store, other):
            changes = other.changes()
            await store.put(record(), expected=0)
            async with within(1):
                assert await anext(changes) == ANN
            assert await other.lease("x", "me", 3) is None

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(use())


def test_the_client_is_imported_only_on_open() -> None:
    code = "import sys, proxy.store.open; sys.exit('psycopg' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
