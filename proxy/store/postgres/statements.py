"""The messages of PostgresStore; the statements of a message are one transaction (link.py).

Settings of a server, database or role must not change their meaning: so each message sets what it relies
on. `{schema}` is filled in when a store is opened. (The tables are created in schema.py.)
"""

from __future__ import annotations

from functools import cache
from typing import Final, LiteralString, NamedTuple

from psycopg import sql

_READ: Final = (
    "SET LOCAL statement_timeout TO 4000; "  # ms; shorter than LIMIT in link.py, so that the error has a code
    "SET LOCAL extra_float_digits TO 1; "  # otherwise times are rounded
)
_WRITE: Final = _READ + "SET LOCAL transaction_isolation TO 'read committed'; "
_DURABLE: Final = _WRITE + "SET LOCAL synchronous_commit TO on; "
_SOON: Final = _WRITE + "SET LOCAL synchronous_commit TO off; "  # may be lost if the server crashes now


class Statement(NamedTuple):
    sql: LiteralString
    settings: LiteralString = _READ


IDENTITY: Final = Statement("SELECT identity FROM {schema}.meta")

# -- records

GET: Final = Statement(
    """SELECT credential, account, generation, state, due_at, expires_at, body, intent, used_at
    FROM {schema}.tokens WHERE credential = %s AND account = %s""",
)
PAGE: Final = Statement(
    """SELECT credential, account, generation, state, due_at, expires_at, body, intent, used_at
    FROM {schema}.tokens WHERE (credential, account) > (%s, %s) ORDER BY credential, account LIMIT %s""",
)
OUTLINES: Final = Statement(
    """SELECT credential, account, state, due_at, expires_at FROM {schema}.tokens
    WHERE (credential, account) > (%s, %s) ORDER BY credential, account LIMIT %s""",
)
GET_MANY: Final = Statement(
    """SELECT credential, account, generation, state, due_at, expires_at, body, intent, used_at
    FROM {schema}.tokens
    JOIN unnest(%s::text[], %s::text[]) AS asked (c, a) ON (credential, account) = (c, a)""",
)
PUT_FIRST: Final = Statement(
    """WITH put AS (
      INSERT INTO {schema}.tokens
      (credential, account, generation, state, due_at, expires_at, body, used_at)
      VALUES (%(credential)s, %(account)s, %(generation)s, %(state)s, %(due_at)s, %(expires_at)s, %(body)s,
        %(used_at)s)
      ON CONFLICT DO NOTHING RETURNING 1)
    SELECT pg_notify({channel}, '') FROM put""",
    _DURABLE,
)
PUT_NEXT: Final = Statement(
    """WITH put AS (
      UPDATE {schema}.tokens SET
        generation = %(generation)s, state = %(state)s, due_at = %(due_at)s, expires_at = %(expires_at)s,
        body = %(body)s, intent = NULL, used_at = greatest(used_at, %(used_at)s),
        changed = pg_current_xact_id()
      WHERE credential = %(credential)s AND account = %(account)s AND generation = %(expected)s
      RETURNING 1)
    SELECT pg_notify({channel}, '') FROM put""",
    _DURABLE,
)
INTEND: Final = Statement(
    """UPDATE {schema}.tokens SET intent = %s
    WHERE credential = %s AND account = %s AND generation = %s RETURNING 1""",
    _DURABLE,
)
QUARANTINE: Final = Statement(
    """WITH moved AS (
        DELETE FROM {schema}.tokens WHERE credential = %s AND account = %s
        RETURNING credential, account, generation, state, due_at, expires_at, body, intent, used_at),
      kept AS (INSERT INTO {schema}.quarantine SELECT clock_timestamp(), * FROM moved RETURNING generation)
    SELECT generation FROM kept""",
    _DURABLE,
)
DUE: Final = Statement(
    """SELECT due_at, credential, account, used_at
    FROM unnest(%s::text[]) AS asked (name) CROSS JOIN LATERAL (
      SELECT due_at, credential, account, used_at FROM {schema}.tokens
      WHERE state = 'valid' AND credential = name AND due_at < %s ORDER BY due_at, account LIMIT %s) AS due
    ORDER BY due_at, credential, account""",
)
POSTPONE: Final = Statement(
    """UPDATE {schema}.tokens SET due_at = %s
    WHERE credential = %s AND account = %s AND generation = %s""",
    _SOON,
)
# Rows are locked in the order of their keys, so that two processes touching the same accounts never deadlock.
TOUCH: Final = Statement(
    """WITH used AS (SELECT * FROM unnest(%s::text[], %s::text[], %s::float8[]) AS used (c, a, at)),
      locked AS MATERIALIZED (
        SELECT c, a, at FROM {schema}.tokens JOIN used ON (credential, account) = (c, a)
        WHERE used_at IS NULL OR used_at < at ORDER BY credential, account FOR NO KEY UPDATE OF tokens)
    UPDATE {schema}.tokens SET used_at = greatest(used_at, at) FROM locked
    WHERE (credential, account) = (c, a)""",
    _SOON,
)
COUNTS: Final = Statement(
    """SELECT credential, CASE
        WHEN state <> 'valid' THEN state
        WHEN expires_at <= %(now)s THEN 'expired'
        WHEN due_at <= %(now)s THEN 'stale'
        ELSE 'valid' END AS state_now, count(*)
    FROM {schema}.tokens GROUP BY credential, state_now""",
)

# -- changes: puts by transactions that the snapshot of the last look (a pg_snapshot) did not show yet

LISTEN: Final = Statement("LISTEN {schema}")
LOOK: Final = Statement(
    """SELECT extract(epoch FROM clock_timestamp())::float8, pg_current_snapshot()::text,
      extract(epoch FROM pg_postmaster_start_time())::float8, credential, account
    FROM (VALUES (true)) AS one LEFT JOIN {schema}.tokens
      ON changed >= pg_snapshot_xmin(%(seen)s::pg_snapshot)
      AND NOT pg_visible_in_snapshot(changed, %(seen)s::pg_snapshot)
      AND pg_visible_in_snapshot(changed, pg_current_snapshot())  -- a restored dump has ids of another server
    ORDER BY changed""",
)

# -- stashes and leases, by the server's clock

STASH: Final = Statement(
    """DELETE FROM {schema}.stash WHERE name IN (
      SELECT name FROM {schema}.stash WHERE expires_at <= clock_timestamp() FOR UPDATE SKIP LOCKED);
    INSERT INTO {schema}.stash VALUES (%(name)s, %(value)s,
      clock_timestamp() + make_interval(secs => %(seconds)s))
    ON CONFLICT (name) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at""",
    _DURABLE,
)
TAKE: Final = Statement(
    "DELETE FROM {schema}.stash WHERE name = %s RETURNING value, expires_at > clock_timestamp()", _DURABLE
)
# First reads whether the lease is available: a waiting process asks often, and locking a row is a write.
# A lease from the future has ended too: the server's clock was set back.
_MAY_HAVE: Final = """(held.owner IN (%(owner)s, %(succeed)s) OR (
      extract(epoch FROM clock_timestamp()) BETWEEN %(after)s AND %(before)s
      AND clock_timestamp() NOT BETWEEN held.renewed_at
        AND held.renewed_at + make_interval(secs => held.seconds)))"""
_LEASE: Final = """INSERT INTO {schema}.leases AS held
      SELECT %(name)s, %(owner)s, clock_timestamp(), %(seconds)s WHERE NOT EXISTS (
        SELECT FROM {schema}.leases AS held WHERE name = %(name)s AND NOT {may_have})
      ON CONFLICT (name) DO UPDATE
      SET owner = excluded.owner, renewed_at = clock_timestamp(), seconds = excluded.seconds
      WHERE {may_have};
    SELECT owner FROM {schema}.leases WHERE name = %(name)s"""
LEASE: Final = Statement(_LEASE, _DURABLE)
RENEW: Final = Statement(_LEASE, _SOON)
RELEASE: Final = Statement("DELETE FROM {schema}.leases WHERE name = %s AND owner = %s", _SOON)


@cache
def rendered(statement: Statement, schema: str) -> bytes:
    """The message for the tables in `schema`, with placeholders for its values."""
    names = {"schema": sql.Identifier(schema), "channel": sql.Literal(schema), "may_have": sql.SQL(_MAY_HAVE)}
    return sql.SQL(statement.settings + statement.sql).format(**names).as_bytes(None)
