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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxy.clock import SystemClock
from proxy.secret import Secret
from proxy.store.base import Key
from proxy.store.open import open_store
from tests.jepsen import checker
from tests.jepsen.backends import STORES, Backend
from tests.jepsen.history import Recorder, read
from tests.jepsen.nemesis import Nemesis, Process
from tests.jepsen.recording import of_record
from tests.jepsen.schedule import LEASE, kind_of, plan
from tests.jepsen.server import serving

WORKERS = ("a", "b", "c")
ACCOUNTS = ("ann", "bob", "cat", "dan")
LIFETIME = 3  # seconds of an access token: refreshed every two
SETTLE = 75.0  # seconds; twice the longest pause after failures (life.BACKOFF_LAST)
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


def run(seed: int, store: str, seconds: float, folder: Path) -> checker.Report:
    """One run, with its configuration, histories and logs in `folder`."""
    (folder / "key").write_text(SEAL)
    (folder / "secret").write_text("s3cret")
    with STORES[store]() as backend:
        asyncio.run(_run(seed, store, seconds, folder, backend))
    return checker.check(read(sorted(folder.glob("*.history"))))


async def _run(seed: int, store: str, seconds: float, folder: Path, backend: Backend) -> None:
    notes, grace = Recorder(folder / "nemesis.history", "nemesis"), kind_of(seed).grace
    notes.note("terms", lease=LEASE, grace=grace, store=store, seed=seed)
    server_notes = Recorder(folder / "server.history", "server")
    async with serving(server_notes, ACCOUNTS, lifetime=LIFETIME, grace=grace) as (server, api):
        config = folder / "config.toml"
        config.write_text(CONFIG.format(folder=folder, store=backend.url, issuer=server.issuer, api=api))
        workers = {place: Process(place, (str(config), api), folder, notes) for place in WORKERS}
        try:
            await _begin(list(workers.values()))
            nemesis = Nemesis(workers, ACCOUNTS, server, backend, notes)
            await nemesis.carry_out(plan(seed, seconds, store, WORKERS, ACCOUNTS))
            await nemesis.end()
            with contextlib.suppress(TimeoutError):  # the checker says that it did not come to its end
                await _settle(list(workers.values()))
            await _note_stored(backend.url, folder, notes)
        finally:
            for worker in workers.values():
                await worker.kill()


async def _begin(workers: Sequence[Process]) -> None:
    for worker in workers:
        await worker.start(*ACCOUNTS)
    for worker in workers:
        await worker.ready()
    for account, worker in zip(ACCOUNTS, itertools.cycle(workers), strict=False):
        worker.order(do="login", account=account)
    await asyncio.sleep(1.0)


async def _settle(workers: Sequence[Process]) -> None:
    await _all(workers, "rested", 30, do="rest")
    await asyncio.sleep(checker.SEEN_WITHIN)
    await _all(workers, "settled", SETTLE + 15, do="settle", seconds=SETTLE)
    await _all(workers[:1], "proved", 30, do="prove")
    await asyncio.sleep(checker.SEEN_WITHIN)
    await _all(workers, "settled", 15, do="settle", seconds=10)
    for worker in workers:
        await worker.retire()


async def _all(workers: Sequence[Process], answer: str, patience: float, **order: Any) -> None:
    for worker in workers:
        worker.order(**order)
    for worker in workers:
        await worker.says(answer, patience)


async def _note_stored(url: str, folder: Path, notes: Recorder) -> None:
    opened = await open_store(url, folder, Secret(SEAL), SystemClock())
    for account in ACCOUNTS:
        notes.note("stored", account=account, **of_record(await opened.get(Key("crm", account))))
    await opened.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=[*STORES, "all"], default="all")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on with new seeds")
    parser.add_argument("--each", type=float, default=12.0, help="seconds that the nemesis has in a run")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--keep", type=Path, help="a folder for histories and logs")
    options = parser.parse_args()
    stores = list(STORES) if options.store == "all" else [options.store]
    until, bad = time.monotonic() + options.seconds, 0
    while True:
        seed = random.randrange(10**6) if options.seed is None else options.seed
        for store in stores:
            bad += not _one(seed, store, options.each, options.keep)
        if options.seed is not None or time.monotonic() > until:
            return min(bad, 1)


def _one(seed: int, store: str, seconds: float, keep: Path | None) -> bool:
    print(f"SEED={seed} STORE={store}", flush=True)
    with tempfile.TemporaryDirectory(prefix="jepsen-") as new:
        folder = keep.absolute() / f"{store}-{seed}" if keep else Path(new)
        folder.mkdir(parents=True, exist_ok=keep is None)
        report = run(seed, store, seconds, folder)
    print(report.text, flush=True)
    return not report.faults


if __name__ == "__main__":
    sys.exit(main())
