"""SQLiteStore beyond the contract: no partial write, and files that only their owner can read."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StoreError
from proxy.store.base import AccountId, Record
from proxy.store.sqlite import statements
from proxy.store.sqlite.statements import Statement
from proxy.store.sqlite.store import LOOK_EVERY, SQLiteStore
from tests.store.raw import raw

ANN = AccountId("crm", "ann")
MakeRecord = Callable[..., Record]


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


# -- the file


@pytest.mark.usefixtures("umask")
async def test_only_the_owner_can_read_its_files_whatever_the_umask(
    tmp_path: Path, clock: Any, record: MakeRecord
) -> None:
    path = tmp_path / "new" / "state" / "tokens.db"
    store = await SQLiteStore.open(path, clock)
    await store.put(record(), expected=0)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"tokens.db": 0o600, "tokens.db-wal": 0o600, "tokens.db-shm": 0o600}
    assert [directory.stat().st_mode & 0o777 for directory in path.parents[:2]] == [0o700, 0o700]
    await store.close()


async def test_a_file_restored_with_wider_rights_is_closed_to_others(sqlite: SQLiteStore, clock: Any) -> None:
    sqlite._path.chmod(0o644)
    again = await SQLiteStore.open(sqlite._path, clock)
    await again.close()
    assert sqlite._path.stat().st_mode & 0o777 == 0o600


async def test_concurrent_creation_gives_one_store(tmp_path: Path, clock: Any) -> None:
    opening = [SQLiteStore.open(tmp_path / "tokens.db", clock) for _ in range(8)]
    stores = await asyncio.gather(*opening)
    identities = {await store.identity() for store in stores}
    for store in stores:
        await store.close()
    assert len(identities) == 1
    assert names(tmp_path) == ["tokens.db"]  # no draft is left over


async def test_records_outlive_the_store_object(tmp_path: Path, clock: Any, record: MakeRecord) -> None:
    for generation in (1, 2, 3):
        store = await SQLiteStore.open(tmp_path / "tokens.db", clock)
        await store.put(record(generation=generation), expected=generation - 1)
        await store.close()
    store = await SQLiteStore.open(tmp_path / "tokens.db", clock)
    assert await store.get(ANN) == record(generation=3)
    await store.close()


def foreign(path: Path) -> None:
    with raw(path) as db:
        db.execute("CREATE TABLE notes (text)")


def newer(path: Path) -> None:
    asyncio.run(_create(path))
    with raw(path) as db:
        db.execute("PRAGMA user_version = 3")


async def _create(path: Path) -> None:
    await (await SQLiteStore.open(path, None)).close()


def linked(path: Path) -> None:
    asyncio.run(_create(path.with_name("elsewhere.db")))
    path.symlink_to("elsewhere.db")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("not a database" * 100), "it is not a token store"),
    "empty": (lambda path: path.touch(), "it belongs to another program"),
    "another program's": (foreign, "it belongs to another program"),
    "a newer version's": (
        newer,
        "it was made by a newer version of token-proxy (schema 3; this one knows 2)",
    ),
    "a symbolic link": (linked, "it is a symbolic link"),
    "a directory": (lambda path: path.mkdir(), "it can't be opened"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_is_refused_and_left_unchanged_if_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tokens.db"
    prepare, sentence = REFUSED[kind]
    prepare(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StoreError) as error:
        asyncio.run(_create(path))
    assert str(error.value).startswith(f"token store {path}: {sentence}")
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_directory_that_can_not_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/tokens\.db: Not a directory: "):
        asyncio.run(_create(tmp_path / "file" / "tokens.db"))


# -- failures while it is open


async def test_a_full_disk_is_reported_and_the_old_record_stays(
    sqlite: SQLiteStore, record: MakeRecord
) -> None:
    await sqlite.put(record(body=b"old"), expected=0)
    ((pages,),) = await sqlite._query(Statement("PRAGMA page_count"))
    await sqlite._query(Statement(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(StoreError, match=r"the disk is full: free some space on it \(SQLITE_FULL\)"):
        await sqlite.put(record(generation=2, body=bytes(100_000)), expected=1)
    assert await sqlite.get(ANN) == record(body=b"old")
    await sqlite._query(Statement("PRAGMA max_page_count = 1000000"))
    await sqlite.put(record(generation=2, body=bytes(100_000)), expected=1)


async def test_a_lock_of_another_program_is_reported(sqlite: SQLiteStore, record: MakeRecord) -> None:
    await sqlite._query(Statement("PRAGMA busy_timeout = 1"))
    with raw(sqlite._path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another program holds a lock on it: close that program"):
            await sqlite.put(record(), expected=0)
    await sqlite.put(record(), expected=0)


async def test_a_read_only_store_is_reported(sqlite: SQLiteStore, record: MakeRecord) -> None:
    await sqlite._query(Statement("PRAGMA query_only = ON"))
    with pytest.raises(StoreError, match="it can't be written: let this user write to it"):
        await sqlite.put(record(), expected=0)


async def test_a_closed_store_says_so(sqlite: SQLiteStore) -> None:
    await sqlite.close()
    await sqlite.close()
    with pytest.raises(StoreError, match="it is closed"):
        await sqlite.get(ANN)


async def test_a_cancelled_put_is_complete_or_not_started(sqlite: SQLiteStore, record: MakeRecord) -> None:
    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    await sqlite._run(lambda db: db.set_trace_callback(lambda _: loop.call_soon_threadsafe(begun.set)))
    with raw(sqlite._path) as other:
        other.execute("BEGIN IMMEDIATE")
        running = asyncio.create_task(sqlite.put(record("running"), expected=0))
        waiting = asyncio.create_task(sqlite.put(record("waiting"), expected=0))
        await begun.wait()
        running.cancel()
        waiting.cancel()
        await asyncio.wait((running, waiting))
        other.execute("ROLLBACK")
    assert await sqlite.page(None, 10) == [record("running")]


async def test_changes_wait_while_the_store_can_not_be_read(
    sqlite: SQLiteStore, record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    changes = sqlite.changes()
    await sqlite.put(record(), expected=0)
    with raw(sqlite._path) as other:
        other.execute("ALTER TABLE tokens RENAME TO hidden")
        with caplog.at_level(logging.ERROR, "proxy.store"):
            watching = asyncio.create_task(anext(changes))
            await asyncio.wait((watching,), timeout=2.5 * LOOK_EVERY)
        other.execute("ALTER TABLE hidden RENAME TO tokens")
    assert await watching == ANN
    assert len(caplog.messages) == 1
    assert "changes by other processes can't be seen now" in caplog.text


# -- leases, stashes, indexes


async def test_after_a_full_disk_the_holder_renews_before_a_newcomer(sqlite: SQLiteStore, clock: Any) -> None:
    other = await SQLiteStore.open(sqlite._path, clock)
    await sqlite.lease("x", "holder", 3)
    clock.boot_now += 60
    await other._query(Statement("PRAGMA query_only = ON"))
    with pytest.raises(StoreError):
        await other.lease("x", "newcomer", 3)
    await other._query(Statement("PRAGMA query_only = OFF"))
    clock.boot_now += 2.9
    assert await other.lease("x", "newcomer", 3) == "holder"
    assert await other.lease("y", "newcomer", 3) is None
    assert await sqlite.renew("x", "holder", 3)
    clock.boot_now += 3
    assert await other.lease("x", "newcomer", 3) is None
    await other.close()


async def test_a_reboot_frees_all_leases(sqlite: SQLiteStore, clock: Any) -> None:
    await sqlite.lease("x", "before", 3)
    clock.boot_id, clock.boot_now = "second-boot", 1.0
    assert await sqlite.lease("x", "after", 3) is None


async def test_expired_stashes_are_swept_by_the_next(sqlite: SQLiteStore, clock: Any) -> None:
    await sqlite.stash("old", b"1", 600)
    clock.wall_now += 601
    await sqlite.stash("new", b"2", 600)
    assert await sqlite._query(Statement("SELECT name FROM stash")) == [("new",)]


QUESTIONS = {
    "get": (statements.GET, ("crm", "ann")),
    "page": (statements.PAGE, ("crm", "ann", 10)),
    "due_before": (statements.DUE, ("crm", 1.0, 10)),
    "counts": (statements.COUNTS, (1.0, 1.0)),
    "changes": (statements.CHANGES, (1, 9, 10)),
    "keys": (statements.KEYS, ("crm", "ann", 10)),
    "outlines": (statements.OUTLINES, ("crm", "ann", 10)),
    "sweep": (statements.SWEEP, (1.0,)),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_no_query_reads_all_records(sqlite: SQLiteStore, question: str) -> None:
    statement, values = QUESTIONS[question]
    plan = [row[3] for row in await sqlite._query(Statement(f"EXPLAIN QUERY PLAN {statement.sql}"), values)]
    assert "INDEX" in plan[0]
    assert plan[0].startswith("SEARCH") or "COVERING" in plan[0]


# -- a file that is moved, deleted or replaced while in use


def rescued(path: Path) -> Path:
    return path.with_name("tokens.db.rescued")


async def generation_in(path: Path, clock: Any) -> int:
    store = await SQLiteStore.open(path, clock)
    held = await store.get(ANN)
    await store.close()
    return held.generation if held else 0


def replace_by_a_copy(path: Path) -> None:
    with raw(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = path.with_name("backup")
    shutil.copyfile(path, backup)
    backup.rename(path)


WAYS: dict[str, Callable[[Path], object]] = {
    "moved": lambda path: path.rename(path.with_name("elsewhere.db")),
    "deleted": lambda path: path.unlink(),
    "replaced": replace_by_a_copy,
}


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_written_to_a_replaced_file_and_its_content_is_saved(
    sqlite: SQLiteStore, clock: Any, record: MakeRecord, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    await sqlite.put(record(), expected=0)
    WAYS[way](sqlite._path)
    for _ in range(3):
        with pytest.raises(StoreError) as refused:
            await sqlite.put(record(generation=2), expected=1)
        assert "it was moved, deleted or replaced while in use" in str(refused.value)
        assert f"its content was saved as {rescued(sqlite._path)}" in str(refused.value)
    assert len(caplog.messages) == 1
    assert rescued(sqlite._path).stat().st_mode & 0o777 == 0o600
    assert await generation_in(rescued(sqlite._path), clock) == 1


async def test_a_write_during_the_replacement_is_an_error_and_is_saved(
    sqlite: SQLiteStore, clock: Any, record: MakeRecord
) -> None:
    await sqlite.put(record(), expected=0)
    path = sqlite._path

    def write_and_lose(db: sqlite3.Connection) -> None:
        db.execute("UPDATE tokens SET generation = 2")
        path.unlink()

    with pytest.raises(StoreError, match="it was moved, deleted or replaced"):
        await sqlite._run(write_and_lose)
    assert await generation_in(rescued(path), clock) == 2


async def test_a_file_that_comes_back_is_used_again(sqlite: SQLiteStore, record: MakeRecord) -> None:
    await sqlite.put(record(), expected=0)
    elsewhere = sqlite._path.rename(sqlite._path.with_name("elsewhere.db"))
    with pytest.raises(StoreError):
        await sqlite.get(ANN)
    elsewhere.rename(sqlite._path)
    await sqlite.put(record(generation=2), expected=1)
    assert await sqlite.get(ANN) == record(generation=2)


async def test_closing_the_old_file_leaves_the_log_of_the_new_one(
    tmp_path: Path, clock: Any, record: MakeRecord
) -> None:
    path = tmp_path / "tokens.db"
    old = await SQLiteStore.open(path, clock)
    await old.put(record(), expected=0)
    for file in (path, tmp_path / "tokens.db-wal", tmp_path / "tokens.db-shm"):
        file.unlink()
    new = await SQLiteStore.open(path, clock)
    await new.put(record(generation=5), expected=0)
    await old.close()
    assert (tmp_path / "tokens.db-wal").exists()
    with raw(path) as db:
        assert db.execute("SELECT generation FROM tokens").fetchall() == [(5,)]
    await new.put(record(generation=6), expected=5)
    await new.close()
    assert await generation_in(path, clock) == 6


async def test_a_failed_rescue_is_reported_and_retried(
    sqlite: SQLiteStore, record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sqlite.put(record(), expected=0)
    directory = sqlite._path.parent
    directory.rename(gone := directory.with_name("gone"))
    with pytest.raises(StoreError, match="could not be copied: put it back, or free"):
        await sqlite.get(ANN)
    directory.mkdir()
    with pytest.raises(StoreError, match="could not be copied"):
        await sqlite.get(ANN)
    sqlite._file.rescue_at = 0.0
    with pytest.raises(StoreError, match=r"saved as .*tokens\.db\.rescued"):
        await sqlite.get(ANN)
    assert gone.exists()


async def test_a_watcher_notices_by_itself(
    sqlite: SQLiteStore, record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    await sqlite.put(record(), expected=0)
    watching = asyncio.create_task(anext(sqlite.changes()))
    sqlite._path.unlink()
    await asyncio.wait((watching,), timeout=2.5 * LOOK_EVERY)
    assert rescued(sqlite._path).exists()
    assert "changes by other processes can't be seen now" in caplog.text
    watching.cancel()
