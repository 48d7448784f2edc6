"""The statements of SQLiteStore, with the types of their result columns. (Schema: schema.py.)"""

from __future__ import annotations

import sqlite3
from types import UnionType
from typing import Any, Final, NamedTuple

Values = tuple[str | bytes | float | None, ...]
Rows = list[tuple[Any, ...]]


class DamagedRowError(Exception):
    """A row holds a value that none of our statements has written."""


class Statement(NamedTuple):
    """SQL, and the expected types of its result columns, which may differ in a damaged file."""

    sql: str
    types: tuple[type | UnionType, ...] = ()


_RECORD: Final = (str, str, int, str, float | None, float | None, bytes, bytes | None, float | None)
GET: Final = Statement(
    """SELECT credential, account, generation, state, due_at, expires_at, body, intent, used_at FROM tokens
    WHERE credential = ? AND account = ?""",
    _RECORD,
)
PAGE: Final = Statement(
    """SELECT credential, account, generation, state, due_at, expires_at, body, intent, used_at FROM tokens
    WHERE (credential, account) > (?, ?) ORDER BY credential, account LIMIT ?""",
    _RECORD,
)
OUTLINES: Final = Statement(
    """SELECT credential, account, state, due_at, expires_at FROM tokens
    WHERE (credential, account) > (?, ?) ORDER BY credential, account LIMIT ?""",
    (str, str, str, float | None, float | None),
)
KEYS: Final = Statement(  # from the index alone, which lists the records even where the table is damaged
    """SELECT credential, account FROM tokens
    WHERE (credential, account) > (?, ?) ORDER BY credential, account LIMIT ?""",
    (str, str),
)
GENERATION: Final = Statement("SELECT generation FROM tokens WHERE credential = ? AND account = ?", (int,))
COUNT_PUT: Final = Statement("UPDATE meta SET changed = changed + 1 RETURNING changed", (int,))
PUT: Final = Statement(
    """INSERT INTO tokens
    (credential, account, generation, state, due_at, expires_at, body, intent, used_at, changed)
    VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, ?)
    ON CONFLICT DO UPDATE SET
      generation = excluded.generation, state = excluded.state, due_at = excluded.due_at,
      expires_at = excluded.expires_at, body = excluded.body, intent = NULL,
      used_at = coalesce(max(used_at, excluded.used_at), used_at, excluded.used_at),
      changed = excluded.changed"""
)
INTEND: Final = Statement(
    "UPDATE tokens SET intent = ? WHERE credential = ? AND account = ? AND generation = ? RETURNING 1", (int,)
)
DUE: Final = Statement(
    """SELECT due_at, account, used_at FROM tokens WHERE state = 'valid' AND credential = ? AND due_at < ?
    ORDER BY due_at, account LIMIT ?""",
    (float, str, float | None),
)
POSTPONE: Final = Statement(
    "UPDATE tokens SET due_at = ? WHERE credential = ? AND account = ? AND generation = ?"
)
TOUCH: Final = Statement(
    """UPDATE tokens SET used_at = max(?, coalesce(used_at, 0))
    WHERE credential = ? AND account = ?"""
)
COUNTS: Final = Statement(
    """SELECT credential, CASE
        WHEN state <> 'valid' THEN state
        WHEN expires_at <= ? THEN 'expired'
        WHEN due_at <= ? THEN 'stale'
        ELSE 'valid' END AS state_now, count(*)
    FROM tokens GROUP BY credential, state_now""",
    (str, str, int),
)
IDENTITY: Final = Statement("SELECT identity FROM meta LIMIT 1", (str,))
QUARANTINE: Final = Statement(
    """INSERT INTO quarantine
    (moved_at, credential, account, generation, state, due_at, expires_at, body, intent, used_at)
    SELECT ?, credential, account, generation, state, due_at, expires_at, body, intent, used_at FROM tokens
    WHERE credential = ? AND account = ?"""
)
REMOVE: Final = Statement("DELETE FROM tokens WHERE credential = ? AND account = ?")
LAST_PUT: Final = Statement("SELECT changed FROM meta", (int,))
CHANGES: Final = Statement(
    """SELECT credential, account, changed FROM tokens WHERE changed > ? AND changed <= ?
    ORDER BY changed LIMIT ?""",
    (str, str, int),
)
SWEEP: Final = Statement("DELETE FROM stash WHERE expires_at <= ?")
STASH: Final = Statement("INSERT OR REPLACE INTO stash (name, value, expires_at) VALUES (?, ?, ?)")
TAKE: Final = Statement("DELETE FROM stash WHERE name = ? RETURNING value, expires_at", (bytes, float))
HOLDER: Final = Statement("SELECT owner FROM leases WHERE name = ? AND boot_id = ? AND until > ?", (str,))
LEASE: Final = Statement("INSERT OR REPLACE INTO leases (name, owner, until, boot_id) VALUES (?, ?, ?, ?)")
RELEASE: Final = Statement("DELETE FROM leases WHERE name = ? AND owner = ?")


def text(raw: bytes) -> str | bytes:
    """Decode a TEXT value; a damaged one stays bytes, which fails the check of types (see is_sound)."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def is_sound(statement: Statement, row: tuple[Any, ...]) -> bool:
    return all(map(isinstance, row, statement.types))


def execute(db: sqlite3.Connection, statement: Statement, values: Values = ()) -> Rows:
    """Run a statement. Raises sqlite3.Error, and DamagedRowError if any row is damaged."""
    rows: Rows = db.execute(statement.sql, values).fetchall()
    if not all(is_sound(statement, row) for row in rows):
        raise DamagedRowError
    return rows


def sound_rows(db: sqlite3.Connection, statement: Statement, values: Values = ()) -> Rows:
    """Like `execute`, but skips damaged rows."""
    rows: Rows = db.execute(statement.sql, values).fetchall()
    return [row for row in rows if is_sound(statement, row)]


def only(db: sqlite3.Connection, statement: Statement) -> Any:
    """The single value of the single row of `meta`. Raises like `execute`."""
    rows = execute(db, statement)
    if len(rows) != 1:
        raise DamagedRowError
    return rows[0][0]
