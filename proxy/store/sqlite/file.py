"""The file of SQLiteStore: where it may be, how it is created and opened, whether it was replaced.

A new file is created under another name and linked into place when it is complete: so no process ever sees
half a schema, and none has to wait for the switch to WAL, during which SQLite fails instead of queueing.

Moving, deleting or replacing the file while processes have it open (restoring a backup under them) would
lose tokens for good: their writes would go to a file without a name, or into a log that users of the new
file take for theirs. So each call checks that the name still leads to the open file. If it does not,
nothing is read or written any more, and the content of the open file is saved once, under another name.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import stat
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.errors import StoreError
from proxy.observe.events import CRITICAL, WARNING, event
from proxy.store.files import creating, make_private_directory
from proxy.store.sqlite import mounts
from proxy.store.sqlite.errors import FAILURES, store_error
from proxy.store.sqlite.schema import (
    APPLICATION_ID,
    SCHEMA,
    UPGRADES,
    VERSION,
    copy_beside,
    upgrade,
    version_of,
)
from proxy.store.sqlite.statements import DamagedRowError, text

BUSY_TIMEOUT: Final = 5.0  # seconds to wait for another process's transaction
_OLDEST_SQLITE: Final = (3, 37)  # STRICT tables
_FOR_OTHERS: Final = 0o077
_RESCUE_AGAIN: Final = 10.0  # seconds between attempts to copy a replaced file, which may be large

_log = logging.getLogger("proxy.store")


@dataclass
class OpenDatabase:
    """The open file of a store. Not thread-safe."""

    path: Path
    connection: sqlite3.Connection
    inode: tuple[int, int]
    rescued: Path | None = None  # where the content was saved after the file was replaced
    rescue_at: float = 0.0  # earliest next attempt, monotonic seconds

    def check_in_place(self) -> None:
        """Raises StoreError if the name no longer leads to the open file."""
        if _inode(self.path) == self.inode:
            self.rescued = None
            return
        if self.rescued is None and time.monotonic() >= self.rescue_at:
            self._rescue()
        remedy = (
            f"its content was saved as {self.rescued}: stop every process that uses the store, put the right "
            "file in its place, and start again"
            if self.rescued
            else "its content could not be copied: put it back, or free disk space, before stopping"
        )
        raise StoreError(f"token store {self.path}: it was moved, deleted or replaced while in use; {remedy}")

    def _rescue(self) -> None:
        try:
            self.rescued = copy_beside(self.connection, self.path.with_name(f"{self.path.name}.rescued"))
        except (*FAILURES, OSError) as error:
            self.rescue_at = time.monotonic() + _RESCUE_AGAIN
            sentence = f"the content of a replaced file could not be saved: {store_error(self.path, error)}"
            event(_log, CRITICAL, "store_replaced", sentence)
        else:
            sentence = f"token store {self.path}: it was replaced; its content was saved as {self.rescued}"
            event(_log, CRITICAL, "store_replaced", sentence)

    def close(self) -> None:
        self.connection.close()  # leaves a log alone that may belong to another file now


def open_database(path: Path) -> OpenDatabase:
    """Open the store's file; create it first if there is none. Another program's file stays unchanged.

    Raises StoreError.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: use a Python with 3.37 or later")
    _check_place(path)
    try:
        if not os.path.lexists(path):
            _create(path)
        if path.is_symlink():
            raise StoreError(f"token store {path}: it is a symbolic link: name the file itself")
        return _connect(path)
    except (*FAILURES, OSError) as error:
        raise store_error(path, error) from error


def _check_place(path: Path) -> None:
    mount = mounts.mount_of(path)
    verdict = mounts.judge(mount.kind) if mount else "local"
    if verdict == "network":
        raise StoreError(
            f"token store {path}: it would be on a network file system ({mount}), where SQLite's shared "
            "memory and locks don't work and tokens get lost: put server.state_dir on a disk of this host, "
            "or, for several hosts, set store.url to a postgresql:// address"
        )
    if verdict == "suspicious":
        sentence = (
            f"token store {path}: it is on {mount}, which may not be a disk of this host: processes of two "
            "hosts must never use it at the same time (for that, set store.url to a postgresql:// address)"
        )
        event(_log, WARNING, "store_not_local", sentence)


def _create(path: Path) -> None:
    make_private_directory(path.parent)
    with creating(path) as draft, closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO meta VALUES (?, 0)", (secrets.token_hex(4),))
        # last: a log would stay behind silently if `close` failed to write it back
        connection.execute("PRAGMA journal_mode = WAL")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _connect(path: Path) -> OpenDatabase:
    while True:
        before = _inode(path)
        connection = _connection(path)
        if before is not None and before == _inode(path):  # it was not replaced meanwhile
            return OpenDatabase(path, connection, before)
        connection.close()


def _connection(path: Path) -> sqlite3.Connection:
    name = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(name, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)
    connection.text_factory = text
    try:
        _check_version(connection, path)
        _make_private(path)
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
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
            f"token store {path}: it was made by a newer version of token-proxy (schema {version}; this one "
            f"knows {VERSION}): use that version, restore its backup ({path.name}.v{VERSION}-backup), or "
            "name another file"
        )
    if version != VERSION and version not in UPGRADES:
        raise store_error(path, DamagedRowError())


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    try:
        upgrade(connection, path)
    except (*FAILURES, OSError) as error:
        why = store_error(path, error)
        raise StoreError(f"{why}; backup and upgrade failed, and nothing is lost") from error


def _make_private(path: Path) -> None:
    """Remove the rights of others, e.g. from a restored file; SQLite gives -wal and -shm the same rights.

    By name: to open and close a file here would drop the locks that SQLite holds on it for other connections
    of this process (POSIX).
    """
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with suppress(FileNotFoundError):  # -wal and -shm come and go
            if stat.S_IMODE(file.stat().st_mode) & _FOR_OTHERS:
                file.chmod(0o600)
