"""A file of the previous version is upgraded on open, with all its content."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StoreError
from proxy.store.base import AccountId
from proxy.store.seal import SealedStore
from proxy.store.sqlite import schema as upgrading
from proxy.store.sqlite.file import open_database
from proxy.store.sqlite.store import SQLiteStore
from tests.servers.programs import find
from tests.store.raw import raw

SECRET = bytes(range(32))
FIXTURE = Path(__file__).parents[1] / "fixtures" / "v1.db"
OPENER = Path(__file__).parents[1] / "opener.py"
ANN, BOB = AccountId("crm", "ann"), AccountId("crm", "bob")
HELD = {"ann": (1, "valid"), "bob": (7, "valid"), "cid": (3, "login_required"), "dan": (2, "logged_out")}
WRITING = ("pwrite64", "fdatasync", "fsync", "ftruncate", "link", "unlink")
PUT_OF_V1 = """INSERT OR REPLACE INTO tokens
    (credential, account, generation, state, due_at, expires_at, body, intent, changed)
    VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?)"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of version 1."""
    path = tmp_path / "tokens.db"
    shutil.copyfile(FIXTURE, path)
    return path


def backup_of(path: Path) -> Path:
    return path.with_name("tokens.db.v1-backup")


def version(path: Path) -> int:
    with raw(path) as db:
        ((found,),) = db.execute("PRAGMA user_version")
        return int(found)


def content(path: Path) -> list[tuple[Any, ...]]:
    with raw(path) as db:
        return db.execute(
            """SELECT credential, account, generation, state, due_at, expires_at, body, intent, changed
            FROM tokens ORDER BY credential, account"""
        ).fetchall()


def schema(path: Path) -> set[tuple[str, ...]]:
    """Tables and indexes with their columns, in any order of creation."""
    with raw(path) as db:
        tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        indexes = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index'").fetchall()
        columns = {
            (table, *map(str, column[1:]))
            for (table,) in tables
            for column in db.execute(f"PRAGMA table_info({table})")
        }
        return columns | {(name, str(sql)) for name, sql in indexes}


def open_in_process(path: Path, *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, OPENER, path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


# -- the content afterwards


async def test_records_intents_leases_and_logins_survive_the_upgrade(old: Path, clock: Any) -> None:
    before = content(old)
    store = SealedStore(await SQLiteStore.open(old, clock), SECRET)
    records = await store.page(None, 10)
    assert {record.key.account: (record.generation, record.state) for record in records} == HELD
    assert [record.intent for record in records] == [None, b'{"generation": 7}', None, None]
    clock.boot_id = "boot-1"
    assert await store.lease("refresh:crm/bob", "another", 3) == "boot-1/4026531836/12/34/5678"
    assert await store.take("login:state-of-eve") == b'{"account": "eve"}'
    assert [due.key for due in await store.due_before(["crm"], clock.wall() + 3000, 10)] == [ANN, BOB]
    await store.touch({ANN: clock.wall()})
    await store.close()
    assert (version(old), content(old)) == (2, before)


async def test_an_upgraded_file_has_the_tables_of_a_new_one(old: Path, tmp_path: Path, clock: Any) -> None:
    for path in (old, tmp_path / "new.db"):
        await (await SQLiteStore.open(path, clock)).close()
    assert schema(old) == schema(tmp_path / "new.db")


def test_a_backup_that_only_the_owner_can_read_is_beside_the_file(
    old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(old)
    open_database(old).close()
    backup = backup_of(old)
    assert backup.stat().st_mode & 0o777 == 0o600
    assert (version(backup), content(backup)) == (1, before)
    (message,) = upgrades(caplog)
    assert f"put {backup} in its place and remove tokens.db-wal and tokens.db-shm" in message
    open_database(old).close()
    assert len(upgrades(caplog)) == 1


def upgrades(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "upgraded from" in message]


def test_an_upgrade_that_takes_long_is_told_once_while_it_lasts(
    old: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrading, "TELL_AFTER", 0.01)
    with raw(old) as other, ThreadPoolExecutor() as pool:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        opened = pool.submit(lambda: open_database(old).close())
        try:
            with pytest.raises(TimeoutError):
                opened.result(0.5)
            (message,) = caplog.messages
            assert message.startswith(f"token store {old}: being copied and upgraded")
        finally:
            other.execute("COMMIT")
        opened.result(60)
    assert len(caplog.messages) == 2


def test_the_backup_includes_the_log_of_an_open_file(old: Path) -> None:
    with raw(old) as older:
        older.execute("UPDATE tokens SET generation = 8 WHERE account = 'bob'")
        before = content(old)
        open_database(old).close()
    assert content(backup_of(old)) == before


def test_an_earlier_backup_is_never_replaced(old: Path) -> None:
    shutil.copyfile(old, first := backup_of(old))
    with raw(old) as older:
        older.execute("UPDATE tokens SET generation = 8 WHERE account = 'bob'")
    first_content, second_content = content(first), content(old)
    open_database(old).close()
    assert content(first) == first_content
    assert content(old.with_name("tokens.db.v1-backup-2")) == second_content


def test_a_restored_backup_is_upgraded_again_and_kept_once(old: Path, tmp_path: Path) -> None:
    for _ in range(3):
        open_database(old).close()
        shutil.copyfile(backup_of(old), old)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tokens.db", "tokens.db.v1-backup"]


# -- several processes


def test_a_process_of_the_previous_version_keeps_using_the_upgraded_file(old: Path) -> None:
    with raw(old) as older:
        older.execute("SELECT count(*) FROM tokens").fetchall()
        open_database(old).close()
        older.execute(PUT_OF_V1, ("crm", "ann", 2, "valid", 1.0, 2.0, b"by the old", 14))
        older.execute("UPDATE tokens SET intent = ? WHERE account = 'ann' AND generation = 2", (b"x",))
    with raw(old) as newer:
        rows = newer.execute("SELECT body, intent, used_at FROM tokens WHERE account = 'ann'").fetchall()
        assert rows == [(b"by the old", b"x", None)]
        assert newer.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_concurrent_opens_upgrade_once(old: Path, tmp_path: Path) -> None:
    before = content(old)
    openers = [
        subprocess.Popen(
            [sys.executable, OPENER, old],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    told = "".join(opener.communicate()[1] for opener in openers)
    assert [opener.returncode for opener in openers] == [0] * 8
    assert told.count("upgraded from schema 1 to 2") == 1
    assert (version(old), content(old)) == (2, before)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tokens.db", "tokens.db.v1-backup"]


# -- what can go wrong


def writes(old: Path, strace: str) -> Iterator[tuple[str, int]]:
    """The system calls of an upgrade that change the disk: name and number of each."""
    traced, log = old.with_name("traced.db"), old.with_name("trace")
    shutil.copyfile(old, traced)
    done = open_in_process(traced, strace, "-f", "-o", str(log), "-e", f"trace={','.join(WRITING)}")
    assert done.returncode == 0, done.stderr
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))
    for name, count in calls.items():
        yield from ((name, number) for number in range(1, count + 1))


@pytest.mark.privileged
def test_killed_at_any_write_it_leaves_the_old_version_or_the_new_with_all_in_it(
    old: Path, tmp_path: Path
) -> None:
    strace, before = find("strace"), content(old)
    points = list(writes(old, strace))
    versions = Counter[int]()
    for name, number in points:
        path = tmp_path / f"{name}-{number}" / "tokens.db"
        path.parent.mkdir()
        shutil.copyfile(old, path)
        fault = f"inject={name}:signal=KILL:when={number}"
        died = open_in_process(path, strace, "-f", "-o", "/dev/null", "-e", fault)
        assert died.returncode == -9
        found = version(path)
        versions[found] += 1
        assert content(path) == before
        if found == 2:
            assert content(backup_of(path)) == before
        open_database(path).close()
        assert (version(path), content(path), content(backup_of(path))) == (2, before, before)
    assert len(points) >= 30
    assert versions[1] > 10
    assert versions[2] >= 3


FAULTS = [  # the first writes go to shared memory, then comes the backup
    ("pwrite64", "ENOSPC", 1, "the disk failed or is full: check it, its quota"),
    ("pwrite64", "ENOSPC", 10, "the disk is full: free some space on it"),
    ("pwrite64", "ENOSPC", 20, "the disk is full: free some space on it"),
    ("pwrite64", "EDQUOT", 10, "the disk failed or is full: check it, its quota"),
    ("fdatasync", "EIO", 1, "the disk failed"),
    ("fdatasync", "EIO", 2, "the disk failed"),
    ("fsync", "EIO", 1, "Input/output error: check its directory and disk"),
    ("link", "ENOSPC", 1, "No space left on device: check its directory and disk"),
]


@pytest.mark.privileged
@pytest.mark.parametrize(("call", "error", "number", "sentence"), FAULTS)
def test_a_disk_error_is_reported_and_the_old_file_stays(
    old: Path, call: str, error: str, number: int, sentence: str
) -> None:
    before = content(old)
    fault = f"inject={call}:error={error}:when={number}+"
    refused = open_in_process(old, find("strace"), "-f", "-o", "/dev/null", "-e", fault)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"token store {old}: {sentence}")
    assert refused.stderr.count("\n") == 1
    assert (version(old), content(old)) == (1, before)
    open_database(old).close()
    assert (version(old), content(old)) == (2, before)


@pytest.mark.parametrize("number", [0, -1])
def test_an_unknown_old_version_is_damage(old: Path, number: int) -> None:
    with raw(old) as db:
        db.execute(f"PRAGMA user_version = {number}")
    with pytest.raises(StoreError, match="it is damaged"):
        open_database(old)
    assert version(old) == number


def test_a_file_with_a_wrong_old_version_is_left_unchanged(old: Path) -> None:
    open_database(old).close()
    with raw(old) as db:
        db.execute("PRAGMA user_version = 1")
    before = old.read_bytes()
    with pytest.raises(StoreError, match="its tables are not those of this program; it is damaged"):
        open_database(old)
    assert old.read_bytes() == before
