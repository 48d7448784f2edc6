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
from proxy.store.sqlite_errors import FAILURES, store_error
from proxy.store.sqlite_schema import APPLICATION_ID, SCHEMA, UPGRADES, VERSION, upgrade, version_of
from proxy.store.statements import DamagedRowError

BUSY_TIMEOUT: Final = 5.0  # seconds that a statement waits for another process's transaction
_OLDEST_SQLITE: Final = (3, 37)  # STRICT tables
_FOR_OTHERS: Final = 0o077


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
    except (*FAILURES, OSError) as error:
        raise store_error(path, error) from error


def _create(path: Path) -> None:
    make_private_directory(path.parent)
    with creating(path) as draft, closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
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
        if version_of(connection) < VERSION:
            _upgrade(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    version = version_of(connection)
    if application != APPLICATION_ID:
        raise StoreError(f"token store {path}: it belongs to another program: name another file")
    if version > VERSION:
        raise StoreError(
            f"token store {path}: a newer version of this program made it (schema {version}, this one knows "
            f"{VERSION}): use that version, put the backup that it made ({path.name}.v{VERSION}-backup) in "
            "its place, or name another file"
        )
    if version != VERSION and version not in UPGRADES:
        raise store_error(path, DamagedRowError())


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    try:
        upgrade(connection, path)
    except (*FAILURES, OSError) as error:
        why = store_error(path, error)
        raise StoreError(f"{why}; it could not be backed up and upgraded: nothing in it is lost") from error


def _make_private(path: Path) -> None:
    """For a file that was restored or copied with wider rights; SQLite gives -wal and -shm the same.

    By name: a file that is opened and closed here would lose the locks that SQLite holds on it for other
    connections of this process (POSIX).
    """
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with suppress(FileNotFoundError):  # the last two come and go
            if stat.S_IMODE(file.stat().st_mode) & _FOR_OTHERS:
                file.chmod(0o600)
