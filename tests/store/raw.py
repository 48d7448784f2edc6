"""Raw access to a store's file with SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def raw(path: Path) -> closing[sqlite3.Connection]:
    """A connection like that of another program, closed after the block."""
    return closing(sqlite3.connect(path, isolation_level=None))
