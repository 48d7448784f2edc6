"""The tables of the SQLite store, by version, and the upgrades from one version to the next.

A file of an older version is upgraded by the first process that opens it. It first makes a backup beside
the file, under the same lock, so that the backup is complete; then it upgrades in one transaction, so that
a crash leaves either the old version or the new one.

Processes of the previous version may have the file open meanwhile, and keep using their own statements. So
an upgrade only adds, and removes nothing that those statements refer to.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from proxy.observe.events import WARNING, event
from proxy.store.files import drafting, keep_beside

VERSION: Final = 2
APPLICATION_ID: Final = 0x546F6B50  # "TokP": distinguishes our file from another program's
_OTHERS_UPGRADE: Final = 60_000  # ms to wait for another process to copy and upgrade a large file

_QUARANTINE: Final = """CREATE TABLE quarantine (
  moved_at REAL NOT NULL,       -- Unix seconds
  credential, account, generation, state, due_at, expires_at, body, intent, used_at  -- unchanged
)"""
# covers `due_before`, which therefore never reads a damaged row of the table
_DUE_INDEX: Final = """CREATE INDEX tokens_due ON tokens (credential, due_at, account, state, used_at)
WHERE state = 'valid'"""

SCHEMA: Final = f"""
BEGIN;
CREATE TABLE tokens (
  credential TEXT NOT NULL,
  account    TEXT NOT NULL,
  generation INTEGER NOT NULL,
  state      TEXT NOT NULL,
  due_at     REAL,
  expires_at REAL,
  body       BLOB NOT NULL,
  intent     BLOB,
  changed    INTEGER NOT NULL,  -- meta.changed at the last put: watchers query higher numbers
  used_at    REAL,
  PRIMARY KEY (credential, account)
) STRICT;
{_DUE_INDEX};
CREATE INDEX tokens_changed ON tokens (changed, credential, account);
CREATE INDEX tokens_counted ON tokens (credential, state, due_at, expires_at);
{_QUARANTINE};
CREATE TABLE stash (
  name       TEXT PRIMARY KEY,
  value      BLOB NOT NULL,
  expires_at REAL NOT NULL
) STRICT;
CREATE INDEX stash_expiry ON stash (expires_at);
CREATE TABLE leases (
  name    TEXT PRIMARY KEY,
  owner   TEXT NOT NULL,
  until   REAL NOT NULL,        -- on the boot clock of boot_id: leases of other boots are void
  boot_id TEXT NOT NULL
) STRICT;
CREATE TABLE meta (
  identity TEXT NOT NULL,
  changed  INTEGER NOT NULL
) STRICT;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""

UPGRADES: Final = {  # version -> statements that upgrade it to the next
    1: (
        "ALTER TABLE tokens ADD COLUMN used_at REAL",
        "DROP INDEX tokens_due",
        _DUE_INDEX,
        _QUARANTINE,
    ),
}

TELL_AFTER: Final = 1.0  # seconds of an upgrade

_log = logging.getLogger("proxy.store.upgrade")  # which commands show, too: see observe/logs.py


def version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Upgrade the file to VERSION unless another process was faster. Raises sqlite3.Error, OSError."""
    ((patience,),) = connection.execute("PRAGMA busy_timeout").fetchall()
    connection.execute(f"PRAGMA busy_timeout = {_OTHERS_UPGRADE}")
    with _told_if_slow(path), connection:  # commits, or rolls back
        connection.execute("BEGIN IMMEDIATE")
        found = version_of(connection)
        if found < VERSION:
            backup = _back_up(path, found)
            for version in range(found, VERSION):
                for statement in UPGRADES[version]:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute(f"PRAGMA busy_timeout = {patience}")
    if found < VERSION:
        sentence = (
            f"token store {path}: upgraded from schema {found} to {VERSION}. To go back to the previous "
            f"version: stop every process, put {backup} in its place and remove {path.name}-wal and "
            f"{path.name}-shm; accounts refreshed since then may need a new login"
        )
        event(_log, WARNING, "store_upgraded", sentence)


@contextmanager
def _told_if_slow(path: Path) -> Iterator[None]:
    """Log once that it takes long: a person may be waiting for it."""

    def tell() -> None:
        sentence = f"token store {path}: being copied and upgraded for this version; do not stop the process"
        event(_log, WARNING, "store_upgrading", sentence)

    timer = threading.Timer(TELL_AFTER, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _back_up(path: Path, version: int) -> Path:
    """Uses a separate connection, as SQLite makes no backup on one with a write transaction."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return copy_beside(connection, path.with_name(f"{path.name}.v{version}-backup"))


def copy_beside(connection: sqlite3.Connection, name: Path) -> Path:
    """Copy the whole database to `name`, with a number appended if another copy has that name.

    The copy is complete and on disk when this returns its name. Raises sqlite3.Error, OSError.
    """
    with drafting(name.parent) as draft:
        with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")  # a private draft needs no rollback
            connection.backup(copy)
        return keep_beside(draft, name)
