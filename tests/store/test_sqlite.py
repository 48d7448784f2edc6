"""What a store in a file promises beyond the contract: nothing half done, nothing for others to read."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StoreError
from proxy.store import statements
from proxy.store.base import Key, Record
from proxy.store.sqlite import LOOK_EVERY, SQLiteStore
from proxy.store.statements import Statement

ANN = Key("crm", "ann")
MakeRecord = Callable[..., Record]


def raw(path: Path) -> closing[sqlite3.Connection]:
    """Another program that has the same file open."""
    return closing(sqlite3.connect(path, isolation_level=None))


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


# -- the file


@pytest.mark.usefixtures("umask")
async def test_all_its_files_are_its_owners_alone_whatever_the_umask(
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


async def test_all_that_create_it_at_once_share_one_store(tmp_path: Path, clock: Any) -> None:
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
    "a newer version's": (newer, "a newer version of this program made it (schema 3, this one knows 2)"),
    "a symbolic link": (linked, "it is a symbolic link"),
    "a directory": (lambda path: path.mkdir(), "it can't be opened"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_is_refused_and_left_as_it_is_if_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tokens.db"
    prepare, sentence = REFUSED[kind]
    prepare(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StoreError) as error:
        asyncio.run(_create(path))
    assert str(error.value).startswith(f"token store {path}: {sentence}")
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_directory_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/tokens\.db: Not a directory: "):
        asyncio.run(_create(tmp_path / "file" / "tokens.db"))


# -- failures while it is open


async def test_a_full_disk_is_told_and_the_old_record_stays(sqlite: SQLiteStore, record: MakeRecord) -> None:
    await sqlite.put(record(body=b"old"), expected=0)
    ((pages,),) = await sqlite._query(Statement("PRAGMA page_count"))
    await sqlite._query(Statement(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(StoreError, match=r"the disk is full: free some space on it \(SQLITE_FULL\)"):
        await sqlite.put(record(generation=2, body=bytes(100_000)), expected=1)
    assert await sqlite.get(ANN) == record(body=b"old")
    await sqlite._query(Statement("PRAGMA max_page_count = 1000000"))
    await sqlite.put(record(generation=2, body=bytes(100_000)), expected=1)


async def test_a_lock_that_another_program_keeps_is_told(sqlite: SQLiteStore, record: MakeRecord) -> None:
    await sqlite._query(Statement("PRAGMA busy_timeout = 1"))
    with raw(sqlite._path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another program keeps it locked: close that program"):
            await sqlite.put(record(), expected=0)
    await sqlite.put(record(), expected=0)


async def test_a_store_that_may_not_be_written_is_told(sqlite: SQLiteStore, record: MakeRecord) -> None:
    await sqlite._query(Statement("PRAGMA query_only = ON"))
    with pytest.raises(StoreError, match="it can't be written: let this user write to it"):
        await sqlite.put(record(), expected=0)


async def test_a_closed_store_says_so(sqlite: SQLiteStore) -> None:
    await sqlite.close()
    await sqlite.close()
    with pytest.raises(StoreError, match="it is closed"):
        await sqlite.get(ANN)


async def test_a_cancelled_put_is_done_or_not_begun(sqlite: SQLiteStore, record: MakeRecord) -> None:
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


async def test_changes_are_waited_for_while_the_store_can_not_be_read(
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
    "changes": (statements.CHANGES, (1, 10)),
    "sweep": (statements.SWEEP, (1.0,)),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_no_question_reads_all_records(sqlite: SQLiteStore, question: str) -> None:
    statement, values = QUESTIONS[question]
    plan = [row[3] for row in await sqlite._query(Statement(f"EXPLAIN QUERY PLAN {statement.sql}"), values)]
    assert "INDEX" in plan[0]
    assert plan[0].startswith("SEARCH") or "COVERING" in plan[0]
