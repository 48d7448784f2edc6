"""Map SQLite's errors to sentences with a remedy."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from proxy.errors import StoreError
from proxy.store import files
from proxy.store.sqlite.statements import DamagedRowError

_DAMAGED: Final = "it is damaged: stop the proxy and put a backup in its place"
_REMEDIES: Final = {  # by primary result code, sqlite.org/rescode.html
    sqlite3.SQLITE_ERROR: f"its tables are not those of this program; {_DAMAGED}",
    sqlite3.SQLITE_FULL: "the disk is full: free some space on it",
    sqlite3.SQLITE_IOERR: "the disk failed or is full: check it, its quota and the limit on files' size",
    sqlite3.SQLITE_READONLY: "it can't be written: let this user write to it and to its directory",
    sqlite3.SQLITE_PERM: "access is denied: give this user the right to read and write it",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened: check that it exists, that this user may write to it and "
    "to its directory, and that neither is on a read-only file system",
    sqlite3.SQLITE_BUSY: "another program holds a lock on it: close that program",
    sqlite3.SQLITE_LOCKED: "another program holds a lock on it: close that program",
    sqlite3.SQLITE_NOTADB: "it is not a token store, or badly damaged: put a backup in its place, or name "
    "another file",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
}
# UnicodeDecodeError: the module can't decode the damaged text that SQLite quotes in a message
FAILURES: Final = (sqlite3.Error, UnicodeDecodeError, DamagedRowError)


def store_error(path: Path, error: Exception) -> StoreError:
    """The failure of the file at `path` and its remedy, by SQLite's result code."""
    if isinstance(error, OSError):
        return StoreError(f"token store {path}: {error.strerror}: {files.remedy(error)}")
    if not isinstance(error, sqlite3.Error):
        return StoreError(f"token store {path}: {_DAMAGED}")
    code = getattr(error, "sqlite_errorcode", None)  # absent in errors of the module itself
    if code is None:
        return StoreError(f"token store {path}: it can't be used ({type(error).__name__}): restart the proxy")
    remedy = _REMEDIES.get(
        code & 0xFF, "it can't be used: see sqlite.org/rescode.html for the code, and restart the proxy"
    )
    return StoreError(f"token store {path}: {remedy} ({error.sqlite_errorname})")
