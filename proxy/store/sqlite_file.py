"""The file behind SQLiteStore: its tables, how it is made and opened, and what its errors mean.

A new file is made under another name and linked into place when it is complete, so that no process ever
sees half a schema and none must wait for the switch to WAL, which SQLite does not queue for.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from proxy.errors import StoreError
from proxy.store.files import creating, make_private_directory
from proxy.store.statements import DamagedRowError

BUSY_TIMEOUT: Final = 5.0  # seconds that a statement waits for another process's transaction
_APPLICATION_ID: Final = 0x546F6B50  # "TokP": tells our file from another program's
_VERSION: Final = 2
_OLDEST_SQLITE: Final = (3, 37)  # STRICT tables
_FOR_OTHERS: Final = 0o077

_SCHEMA: Final = f"""
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
  used_at    REAL,
  changed    INTEGER NOT NULL,  -- meta.changed at the last put: a watcher asks for higher numbers
  PRIMARY KEY (credential, account)
) STRICT;
CREATE INDEX tokens_due ON tokens (credential, due_at, account) WHERE state = 'valid';
CREATE INDEX tokens_changed ON tokens (changed, credential, account);
CREATE INDEX tokens_counted ON tokens (credential, state, due_at, expires_at);
CREATE TABLE stash (
  name       TEXT PRIMARY KEY,
  value      BLOB NOT NULL,
  expires_at REAL NOT NULL
) STRICT;
CREATE INDEX stash_expiry ON stash (expires_at);
CREATE TABLE leases (
  name    TEXT PRIMARY KEY,
  owner   TEXT NOT NULL,
  until   REAL NOT NULL,        -- on the boot clock of boot_id: another boot's leases are void
  boot_id TEXT NOT NULL
) STRICT;
CREATE TABLE meta (
  identity TEXT NOT NULL,
  changed  INTEGER NOT NULL
) STRICT;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
COMMIT;
"""

_REMEDIES: Final = {  # by primary result code, sqlite.org/rescode.html
    sqlite3.SQLITE_FULL: "the disk is full: free some space on it",
    sqlite3.SQLITE_IOERR: "the disk failed: check it, its quota and the limit on the size of files",
    sqlite3.SQLITE_READONLY: "it can't be written: let this user write to it and to its directory",
    sqlite3.SQLITE_PERM: "it may not be used: give this user the right to read and write it",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened: check that it exists and that this user may write to it",
    sqlite3.SQLITE_BUSY: "another program keeps it locked: close that program",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked: close that program",
    sqlite3.SQLITE_NOTADB: "it is not a token store: move it away or name another file",
    sqlite3.SQLITE_CORRUPT: "it is damaged: stop the proxy and put a backup in its place",
}


FAILURES: Final = (sqlite3.Error, UnicodeDecodeError, DamagedRowError)  # the second comes from damaged text


def store_error(path: Path, error: Exception) -> StoreError:
    """What went wrong with the file at `path` and what to do about it, judged by SQLite's result code."""
    if not isinstance(error, sqlite3.Error):
        return StoreError(f"token store {path}: {_REMEDIES[sqlite3.SQLITE_CORRUPT]}")
    code = getattr(error, "sqlite_errorcode", None)  # absent where the module itself complains
    if code is None:
        return StoreError(f"token store {path}: it can't be used ({type(error).__name__}): restart the proxy")
    remedy = _REMEDIES.get(code & 0xFF, "it can't be used: look the code up and restart the proxy")
    return StoreError(f"token store {path}: {remedy} ({error.sqlite_errorname})")


def open_database(path: Path) -> sqlite3.Connection:
    """Open the store's file, made first if there is none. A file that is not ours stays as it is.

    Raises StoreError.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: use a Python with 3.37 or later")
    try:
        if not os.path.lexists(path):
            _create(path)
        if path.is_symlink():
            raise StoreError(f"token store {path}: it is a symbolic link: name the file itself")
        return _connect(path)
    except FAILURES as error:
        raise store_error(path, error) from error
    except OSError as error:
        raise StoreError(f"token store {path}: {error.strerror}: check its directory and disk") from error


def _create(path: Path) -> None:
    make_private_directory(path.parent)
    with creating(path) as draft, closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        connection.execute("INSERT INTO meta VALUES (?, 0)", (secrets.token_hex(4),))
        # last, since what a log still holds would stay behind, unsaid, if `close` failed to write it back
        connection.execute("PRAGMA journal_mode = WAL")


def _connect(path: Path) -> sqlite3.Connection:
    name = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(name, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
    try:
        _check_version(connection, path)
        _make_private(path)
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise StoreError(f"token store {path}: it belongs to another program: name another file")
    if version > _VERSION:
        raise StoreError(
            f"token store {path}: a newer version of this program made it (schema {version}, "
            f"this one knows {_VERSION}): use that version, or name another file"
        )


def _make_private(path: Path) -> None:
    """For a file that was restored or copied with wider rights; SQLite gives -wal and -shm the same.

    By name: a file that is opened and closed here would lose the locks that SQLite holds on it for other
    connections of this process (POSIX).
    """
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with suppress(FileNotFoundError):  # the last two come and go
            if stat.S_IMODE(file.stat().st_mode) & _FOR_OTHERS:
                file.chmod(0o600)
