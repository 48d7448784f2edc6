"""A store with very many accounts, and the cost of a proxy on it: at start, at rest, to find due accounts.

What is asked of the store is counted, not timed: bytes that SQLite reads and steps of its machine, rows that
PostgreSQL reads. The rows are written as the stores write them, but all in one transaction.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from proxy.clock import SystemClock
from proxy.config.model import Config
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.services import open_services
from proxy.store.base import AccountId
from proxy.store.seal import Sealer
from proxy.tokens.refresh.scheduler import BATCH
from proxy.tokens.saved import codec

from .memory import resident
from .processes import wait_until

REST = 2.5  # seconds until a started process is at rest, and of the measurement then: two looks
CREDENTIAL = "crm"
COLUMNS = "credential, account, generation, state, due_at, expires_at, body"
Row = tuple[str, str, int, str, float, float, bytes]


@dataclass(frozen=True)
class Figures:
    start_cpu: float  # seconds of a processor until it is ready
    at_rest: int  # bytes resident
    rest_cpu: float  # seconds of a processor in REST seconds at rest
    read: int  # from the store, in all: bytes by SQLite, rows by PostgreSQL
    look: int  # one question of the refresher to the store: steps of SQLite's machine, rows of PostgreSQL


def rows(count: int, secret: bytes, server: str, client_id: str) -> Iterator[Row]:
    """Accounts whose tokens are valid for hours; none is due during the measurement."""
    sealer, clock = Sealer(secret), SystemClock()
    now, digits = clock.wall(), "#" * 32
    token = Token(
        access_token=Secret(f"access-{digits}"),
        refresh_token=Secret(f"refresh-{digits}"),
        server=server,
        client_id=client_id,
        issued_at=now,
        issued_boot=clock.boot(),
        boot_id=clock.boot_id,
        lifetime=36_000.0,
    )
    encoded = codec.encode(token)
    for number in range(count):
        key = AccountId(CREDENTIAL, f"user{number:06}")
        due_at = now + 10_000 + number % 10_000
        body = sealer.seal(encoded.replace(digits.encode(), b"%032d" % number), "body", *key, 1)
        yield (*key, 1, "valid", due_at, now + 36_000, body)


def fill_sqlite(path: Path, accounts: Iterator[Row]) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany(f"INSERT INTO tokens ({COLUMNS}, changed) VALUES (?, ?, ?, ?, ?, ?, ?, 1)", accounts)
        db.execute("UPDATE meta SET changed = 1")
        db.execute("ANALYZE")


def fill_postgres(url: str, accounts: Iterator[Row]) -> None:
    with psycopg.connect(url) as db:
        with db.cursor().copy(f"COPY token_proxy.tokens ({COLUMNS}) FROM STDIN WITH (FORMAT binary)") as copy:
            copy.set_types(["text", "text", "int8", "text", "float8", "float8", "bytea"])
            for row in accounts:
                copy.write_row(row)
        db.execute("ANALYZE token_proxy.tokens")


async def empty_store(config: Config) -> None:
    """Created by the first to open it."""
    async with open_services(config):
        pass


async def look(config: Config) -> None:
    async with open_services(config) as services:
        await services.store.due_before([CREDENTIAL], time.time() + 1, BATCH)


@contextmanager
def sqlite_steps() -> Iterator[Counter[str]]:
    """Count the instructions that SQLite's virtual machine executes in this process."""
    steps, connect = Counter[str](), sqlite3.connect

    def connected(*args: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*args, **options)
        db.set_progress_handler(lambda: steps.update(["steps"]), 1)
        return db

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", connected)
        yield steps


def postgres_rows(url: str) -> int:
    """How many rows of its tables a database has read; each connection tells when it ends."""
    with psycopg.connect(url, autocommit=True) as db:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        wait_until(lambda: db.execute(others).fetchone() == (1,), "the other connections to end")
        read = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int FROM pg_stat_user_tables"
        found = db.execute(read).fetchone()
    assert found
    return int(found[0])


def look_at(config: Config) -> int:
    """The cost of one look, opening the store included."""
    url = config.store.url.reveal()
    if url.startswith("sqlite:"):
        with sqlite_steps() as steps:
            asyncio.run(look(config))
        return steps["steps"]
    before = postgres_rows(url)
    asyncio.run(look(config))
    return postgres_rows(url) - before


@contextmanager
def running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[int]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environment) as process:
        try:
            wait_until(lambda: b"token-proxy is ready" in log.read_bytes() or process.poll(), "a start")
            assert process.poll() is None, log.read_text()
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def cpu(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bytes_read(pid: int) -> int:
    """By a process, of files."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def measure(command: list[str], config: Config, log: Path, environment: dict[str, str]) -> Figures:
    url = config.store.url.reveal()
    is_file = url.startswith("sqlite:")
    read = 0 if is_file else -postgres_rows(url)
    with running(command, log, environment) as pid:
        start = cpu(pid)
        time.sleep(REST)
        memory, used = resident(pid), cpu(pid)
        time.sleep(REST)
        rest = cpu(pid) - used
        if is_file:
            read = bytes_read(pid)
    if not is_file:
        read += postgres_rows(url)
    return Figures(start, memory, rest, read, look_at(config))
