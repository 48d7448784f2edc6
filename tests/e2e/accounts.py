"""A store with very many accounts, and what a proxy over it costs: to start, at rest, to find what is due.

The rows are written as the stores write them, but all in one transaction.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg

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

REST = 3.0  # seconds until a process that has started is at rest
LOOKS = 300  # at the index
CREDENTIAL = "crm"
COLUMNS = "credential, account, generation, state, due_at, expires_at, body"
Row = tuple[str, str, int, str, float, float, bytes]


@dataclass(frozen=True)
class Figures:
    start_cpu: float  # seconds of a processor until it is ready
    at_rest: int  # bytes resident
    rest_cpu: float  # seconds of a processor in REST seconds at rest
    look: float  # seconds for the refresher's question to the store


def rows(count: int, secret: bytes, server: str, client_id: str) -> Iterator[Row]:
    """Accounts whose tokens are good for hours; nothing is due while somebody measures."""
    sealer, clock = Sealer(secret), SystemClock()
    now = clock.wall()
    for number in range(count):
        key = AccountId(CREDENTIAL, f"user{number:06}")
        token = Token(
            access_token=Secret(f"access-{number:032}"),
            refresh_token=Secret(f"refresh-{number:032}"),
            server=server,
            client_id=client_id,
            issued_at=now,
            issued_boot=clock.boot(),
            boot_id=clock.boot_id,
            lifetime=36_000.0,
        )
        due_at = now + 10_000 + number % 10_000
        body = sealer.seal(codec.encode(token), "body", *key, 1)
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
    """Made by whoever opens it first."""
    async with open_services(config):
        pass


async def time_of_a_look(config: Config) -> float:
    """The quickest of many: what the others took longer is this machine's business."""
    times = []
    async with open_services(config) as state:
        for _ in range(LOOKS):
            began = time.perf_counter()
            await state.store.due_before([CREDENTIAL], time.time() + 1, BATCH)
            times.append(time.perf_counter() - began)
    return min(times)


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
    """Seconds of a processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(command: list[str], config: Config, log: Path, environment: dict[str, str]) -> Figures:
    with running(command, log, environment) as pid:
        start = cpu(pid)
        time.sleep(REST)
        memory, used = resident(pid), cpu(pid)
        time.sleep(REST)
        rest = cpu(pid) - used
    return Figures(start, memory, rest, asyncio.run(time_of_a_look(config)))


def middle(figures: list[Figures]) -> Figures:
    return Figures(*(median(values) for values in zip(*map(_values, figures), strict=True)))


def _values(figures: Figures) -> tuple[float, ...]:
    return figures.start_cpu, figures.at_rest, figures.rest_cpu, figures.look
