"""One run, or many: `python -m tests.jepsen.run --store redis --seconds 600` (`make jepsen`).

Prints each seed before its run, and on a fault what the checker found with the history around it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.clock import SystemClock
from proxy.secret import Secret
from proxy.store.base import Key
from proxy.store.open import open_store
from tests.jepsen import checker
from tests.jepsen.history import Event, Recorder, read
from tests.jepsen.nemesis import Backend, Nemesis, Process
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


class SQLite:
    url = "sqlite:tokens.db"

    async def disturb(self, how: str, seconds: float, recorder: Recorder) -> None:
        raise NotImplementedError(how)

    async def mend(self) -> None:
        return


@asynccontextmanager
async def sqlite(_folder: Path) -> AsyncIterator[Backend]:
    yield SQLite()


STORES: Mapping[str, Callable[[Path], contextlib.AbstractAsyncContextManager[Backend]]] = {"sqlite": sqlite}


def run(seed: int, store: str, seconds: float, folder: Path) -> list[Event]:
    """A run's history."""
    asyncio.run(_run(seed, store, seconds, folder))
    return read(sorted(folder.glob("*.history")))


async def _run(seed: int, store: str, seconds: float, folder: Path) -> None:
    (folder / "key").write_text(SEAL)
    (folder / "secret").write_text("s3cret")
    server_notes = Recorder(folder / "server.history", "server")
    notes = Recorder(folder / "nemesis.history", "nemesis")
    grace = kind_of(seed).grace
    notes.note("terms", lease=LEASE, grace=grace, store=store, seed=seed)
    async with (
        STORES[store](folder) as backend,
        serving(server_notes, ACCOUNTS, lifetime=LIFETIME, grace=grace) as (server, api),
    ):
        config = folder / "config.toml"
        config.write_text(CONFIG.format(folder=folder, store=backend.url, issuer=server.issuer, api=api))
        workers = {place: Process(place, (str(config), api), folder, notes) for place in WORKERS}
        try:
            for worker in workers.values():
                await worker.start(*ACCOUNTS)
            for worker in workers.values():
                await worker.ready()
            for number, account in enumerate(ACCOUNTS):
                workers[WORKERS[number % len(WORKERS)]].order(do="login", account=account)
            await asyncio.sleep(1.0)
            nemesis = Nemesis(workers, ACCOUNTS, server, backend, notes)
            await nemesis.carry_out(plan(seed, seconds, store, WORKERS, ACCOUNTS))
            await nemesis.end()
            await _settle(workers, folder)
            await _note_stored(backend.url, folder, notes)
        finally:
            for worker in workers.values():
                await worker.kill()


async def _settle(workers: Mapping[str, Process], folder: Path) -> None:
    for worker in workers.values():
        worker.order(do="rest")
    await _until_noted("rested", workers.values(), 30)
    for worker in workers.values():
        worker.order(do="settle", seconds=SETTLE)
    await _until_noted("settled", workers.values(), SETTLE + 15)
    first = next(iter(workers.values()))
    first.order(do="prove")
    await _until_noted("proved", [first], 30)
    for worker in workers.values():
        worker.order(do="settle", seconds=10.0)
    await asyncio.sleep(1.5)


async def _until_noted(what: str, workers: Iterable[Process], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if all(f'"what": "{what}"' in worker.history.read_text() for worker in workers):
            return
        await asyncio.sleep(0.1)


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
    with contextlib.ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jepsen-")))
        else:
            folder = keep.absolute() / f"{store}-{seed}"
            folder.mkdir(parents=True)
        history = run(seed, store, seconds, folder)
    report = checker.check(history)
    print(report.text, flush=True)
    return not report.faults


if __name__ == "__main__":
    sys.exit(main())
