"""A store's file by its tables, past the store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def raw(path: Path) -> closing[sqlite3.Connection]:
    """Another program that has the same file open."""
    return closing(sqlite3.connect(path, isolation_level=None))
