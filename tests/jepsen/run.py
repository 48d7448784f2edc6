"""One run, or many: `python -m tests.jepsen.run --store redis --seconds 600` (`make jepsen`).

Prints each seed before its run, and on a fault what the checker found with the history around it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.clock import SystemClock
from proxy.secret import Secret
from proxy.store.base import AccountId
from proxy.store.open import open_store
from tests.jepsen import checker
from tests.jepsen.backends import STORES, Backend
from tests.jepsen.history import Recorder, read
from tests.jepsen.nemesis import Nemesis
from tests.jepsen.process import Process
from tests.jepsen.recording import of_record
from tests.jepsen.sabotage import WAYS
from tests.jepsen.schedule import LEASE, Act, Kind, kind_of, plan
from tests.jepsen.server import serving

WORKERS = ("a", "b", "c")
ACCOUNTS = ("ann", "bob", "cat", "dan")
SETTLE = 75.0  # seconds; twice the longest pause after failures (backoff.BACKOFF_LAST)
SEAL = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CONFIG = """
[server]
state_dir = "{folder}"
[store]
url = "{store}"
key = {{ file = "{folder}/key" }}
[credentials.crm]
issuer = "{issuer}"
grant = "authorization_code"
client_id = "web"
client_secret = {{ file = "{folder}/secret" }}
[[routes]]
path = "/crm"
upstream = "{api}"
credential = "crm"
account = {{ header = "Account" }}
[limits]
token_wait = 5.0
authorization_server_connect = 1.0
authorization_server_total = 1.0
"""


@dataclass(frozen=True, slots=True)
class Run:
    store: str
    kind: Kind
    acts: Sequence[Act]
    folder: Path  # for configuration, histories and logs
    sabotage: str = ""  # one of sabotage.WAYS
    settles: bool = True  # wait until all accounts have settled


def of_seed(seed: int, store: str, seconds: float, folder: Path, sabotage: str = "") -> Run:
    """`seconds`: the duration of the acts."""
    return Run(store, kind_of(seed), plan(seed, seconds, store, WORKERS, ACCOUNTS), folder, sabotage)


def run(one: Run) -> checker.Report:
    (one.folder / "key").write_text(SEAL)
    (one.folder / "secret").write_text("s3cret")
    with STORES[one.store]() as backend:
        asyncio.run(_run(one, backend))
    return checker.check(read(sorted(one.folder.glob("*.history"))))


async def _run(one: Run, backend: Backend) -> None:
    notes, kind = Recorder(one.folder / "nemesis.history", "nemesis"), one.kind
    notes.note("terms", lease=LEASE, grace=kind.grace)
    server_notes = Recorder(one.folder / "server.history", "server")
    async with serving(server_notes, ACCOUNTS, lifetime=kind.lifetime, grace=kind.grace) as (server, api):
        command = one.sabotage, _config(one.folder, backend.url, server.issuer, api), api
        workers = {name: Process(name, command, one.folder, notes) for name in WORKERS}
        try:
            await _begin(list(workers.values()))
            nemesis = Nemesis(workers, ACCOUNTS, server, backend, notes)
            await nemesis.carry_out(one.acts)
            await nemesis.end()
            with contextlib.suppress(TimeoutError):  # the checker reports that it did not end
                await _settle(list(workers.values())) if one.settles else await _rest()
            await _note_stored(backend.url, one.folder, notes)
        finally:
            for worker in workers.values():
                await worker.kill()


def _config(folder: Path, store: str, issuer: str, api: str) -> str:
    path = folder / "config.toml"
    path.write_text(CONFIG.format(folder=folder, store=store, issuer=issuer, api=api))
    return str(path)


async def _begin(workers: Sequence[Process]) -> None:
    for worker in workers:
        await worker.start(*ACCOUNTS)
    for worker in workers:
        await worker.ready()
    for account, worker in zip(ACCOUNTS, itertools.cycle(workers), strict=False):
        worker.order(do="login", account=account)
    await _all(workers, "rested", 30, do="rest")


async def _settle(workers: Sequence[Process]) -> None:
    await _all(workers, "rested", 30, do="rest")
    await _rest()
    await _all(workers, "settled", SETTLE + 15, do="settle", seconds=SETTLE)
    await _all(workers[:1], "proved", 45, do="prove", seconds=10)
    await _rest()
    await _all(workers, "settled", 15, do="settle", seconds=10)
    for worker in workers:
        await worker.retire()


async def _rest() -> None:
    """Until all workers have seen all changes."""
    await asyncio.sleep(checker.SEEN_WITHIN)


async def _all(workers: Sequence[Process], reply: str, patience: float, **order: Any) -> None:
    for worker in workers:
        worker.order(**order)
    for worker in workers:
        await worker.says(reply, patience)


async def _note_stored(url: str, folder: Path, notes: Recorder) -> None:
    opened = await open_store(url, folder, Secret(SEAL), SystemClock())
    for account in ACCOUNTS:
        notes.note("stored", account=account, **of_record(await opened.get(AccountId("crm", account))))
    await opened.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=[*STORES, "all"], default="all")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to start runs with new seeds")
    parser.add_argument("--each", type=float, default=12.0, help="seconds of the nemesis in a run")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--keep", type=Path, help="a folder for histories and logs")
    parser.add_argument("--sabotage", choices=WAYS, default="", help="break the product first")
    options = parser.parse_args()
    stores = list(STORES) if options.store == "all" else [options.store]
    until, bad = time.monotonic() + options.seconds, 0
    while True:
        seed = random.randrange(10**6) if options.seed is None else options.seed
        for store in stores:
            with _folder(options.keep, f"{store}-{seed}") as folder:
                print(f"SEED={seed} STORE={store}", flush=True)
                report = run(of_seed(seed, store, options.each, folder, options.sabotage))
                print(report.text, flush=True)
                bad += bool(report.faults)
        if options.seed is not None or time.monotonic() > until:
            return min(bad, 1)


@contextlib.contextmanager
def _folder(keep: Path | None, name: str) -> Iterator[Path]:
    if keep:
        (keep.absolute() / name).mkdir(parents=True)
        yield keep.absolute() / name
    else:
        with tempfile.TemporaryDirectory(prefix="jepsen-") as folder:
            yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
