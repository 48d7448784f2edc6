"""The names of accounts in a store's file, for the completion of a command line: it changes nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

_PATIENCE: Final = 0.2  # seconds for a lock; a person waits
_NAMES: Final = """SELECT account FROM tokens
WHERE credential = ? AND substr(account, 1, ?) = ? AND state <> 'logged_out' ORDER BY account LIMIT ?"""


def account_names(path: Path, credential: str, beginning: str, limit: int) -> list[str]:
    """Names that begin so. Raises sqlite3.Error: there is no such file, or it is no store."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE)) as connection:
        rows = connection.execute(_NAMES, (credential, len(beginning), beginning, limit))
        return [str(name) for (name,) in rows]
