"""The tables of PostgresStore: how they are created and migrated.

The first process creates them, while an advisory lock makes the others wait. Before a migration the table
of tokens is copied to `tokens_before_VERSION`.
"""

from __future__ import annotations

import logging
import re
import secrets
from typing import Final

from psycopg import sql

from proxy.observe.events import WARNING, event
from proxy.store.postgres.link import Link, Rows, Server, Values

_VERSION_1: Final = sql.SQL("""
CREATE TABLE {schema}.tokens (
  credential text COLLATE "C" NOT NULL,  -- pages have the order of Python
  account    text COLLATE "C" NOT NULL,
  generation bigint NOT NULL,
  state      text NOT NULL,
  due_at     double precision,
  expires_at double precision,
  body       bytea NOT NULL,
  intent     bytea,
  used_at    double precision,
  changed    xid8 NOT NULL DEFAULT pg_current_xact_id(),  -- by the last put
  PRIMARY KEY (credential, account)
);
CREATE INDEX tokens_due ON {schema}.tokens (credential, due_at, account) WHERE state = 'valid';
CREATE INDEX tokens_changed ON {schema}.tokens (changed);
CREATE INDEX tokens_counted ON {schema}.tokens (credential, state, due_at, expires_at);
CREATE TABLE {schema}.quarantine (  -- unreadable records, unchanged
  moved_at   timestamptz NOT NULL,
  credential text NOT NULL,
  account    text NOT NULL,
  generation bigint NOT NULL,
  state      text NOT NULL,
  due_at     double precision,
  expires_at double precision,
  body       bytea NOT NULL,
  intent     bytea,
  used_at    double precision
);
CREATE TABLE {schema}.stash (
  name       text PRIMARY KEY,
  value      bytea NOT NULL,
  expires_at timestamptz NOT NULL
);
CREATE INDEX stash_expiry ON {schema}.stash (expires_at);
CREATE TABLE {schema}.leases (
  name       text PRIMARY KEY,
  owner      text NOT NULL,
  renewed_at timestamptz NOT NULL,
  seconds    double precision NOT NULL
);
CREATE TABLE {schema}.meta (
  version  integer NOT NULL,
  identity text NOT NULL
);
INSERT INTO {schema}.meta VALUES (0, {identity});
""")
MIGRATIONS: Final = (_VERSION_1,)  # each migrates the previous version to the next

_OLDEST_SERVER: Final = 130000  # xid8, pg_snapshot
_LONGEST_WORK: Final = (
    120.0  # seconds to create, copy or migrate the tables, or to wait for another process to
)
_SCHEMA: Final = "token_proxy"  # unless the URL's options set a search_path
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")

_log = logging.getLogger("proxy.store")


async def prepare(link: Link, server: Server, migrations: tuple[sql.SQL, ...] = MIGRATIONS) -> str:
    """Create or migrate the tables; return the name of their schema. Raises StoreError."""
    schema = await _check(link, server)
    version = await _version(link, schema)
    if version < len(migrations):
        await _migrate(link, schema, migrations)
    if version > len(migrations):
        raise server.error(
            f"it was made by a newer version of token-proxy (schema {version}; this one knows "
            f"{len(migrations)}): use that version, or name another database"
        )
    return schema


async def _check(link: Link, server: Server) -> str:
    """Check that the server is suitable; return the name of the schema. Raises StoreError."""
    if link.server_version < _OLDEST_SERVER:
        raise server.error("PostgreSQL 13 or later is needed: upgrade the server, or name another")
    ((standby, fsync, path),) = await link.ask(
        b"""SELECT pg_is_in_recovery(), current_setting('fsync'),
        (SELECT setting FROM pg_settings WHERE name = 'search_path' AND source = 'client')"""
    )
    if standby:
        raise server.error("it is a standby, which can't be written: name the primary server")
    if fsync == "off":
        sentence = f"token store {server.name}: fsync is off, so a crash of its machine may lose tokens"
        event(_log, WARNING, "store_not_durable", sentence)
    schema = str(path or _SCHEMA).partition(",")[0].strip()
    if not _NAME.fullmatch(schema):
        raise server.error("search_path in its options is not a valid schema name: use one in lower case")
    return schema


async def _version(link: Link, schema: str) -> int:
    """The version of the tables; 0 if there are none."""
    ((meta,),) = await link.ask(b"SELECT to_regclass(%s) IS NOT NULL", (f"{schema}.meta",))
    if not meta:
        return 0
    ((version,),) = await _ask(link, sql.SQL("SELECT version FROM {schema}.meta"), schema)
    return int(version)


async def _migrate(link: Link, schema: str, migrations: tuple[sql.SQL, ...]) -> None:
    await link.ask(b"BEGIN ISOLATION LEVEL READ COMMITTED")
    await _ask(link, _LOCK, schema, name=sql.Literal(schema))
    version = await _version(link, schema)  # again: another process may have migrated meanwhile
    if 0 < version < len(migrations):
        sentence = f"token store: migrating its tables from version {version} to {len(migrations)}"
        event(_log, WARNING, "store_upgraded", sentence)
        copy = sql.SQL("CREATE TABLE {schema}.{copy} AS TABLE {schema}.tokens")
        await _ask(link, copy, schema, copy=sql.Identifier(f"tokens_before_{len(migrations)}"))
    for number, migration in enumerate(migrations[version:], start=version + 1):
        await _ask(link, migration, schema, identity=sql.Literal(secrets.token_hex(4)))
        await _ask(link, sql.SQL("UPDATE {schema}.meta SET version = %s"), schema, (number,))
    await link.ask(b"COMMIT")


_LOCK: Final = sql.SQL("""
SET LOCAL synchronous_commit TO on;
SELECT pg_advisory_xact_lock(hashtextextended('token-proxy ' || {name}, 0));
DO $$ BEGIN  -- not IF NOT EXISTS, which needs the right to create even if the schema exists
  IF to_regnamespace({name}) IS NULL THEN CREATE SCHEMA {schema}; END IF;
END $$;
""")


async def _ask(link: Link, query: sql.SQL, schema: str, values: Values = (), **names: sql.Composable) -> Rows:
    filled = query.format(schema=sql.Identifier(schema), **names)
    return await link.ask(filled.as_bytes(None), values, limit=_LONGEST_WORK)
