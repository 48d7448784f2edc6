"""Short runs on each store; `make jepsen` has long ones. The checker must notice a broken product."""

import asyncio
import itertools

import pytest

from tests.jepsen.run import Run, of_seed, run
from tests.jepsen.schedule import KINDS, LEASE, LONG, SHORT, Act, Kind

SECONDS = 8  # of the nemesis
ATTEMPTS = range(3)  # a busy machine may miss the moment of a fault; a broken checker always does
STORES = {  # by the kind of run (schedule.KINDS); SQLite has no server that could go away
    0: ("sqlite", "redis", "postgres"),
    1: ("redis", "postgres"),
    2: ("sqlite", "postgres"),
    4: ("redis", "postgres"),
}


async def all_at_once(runs):
    """They mostly wait."""
    return await asyncio.gather(*(asyncio.to_thread(run, one) for one in runs))


@pytest.mark.parametrize("seed", STORES)
async def test_nothing_is_lost_under_faults_of_processes_store_and_server(seed, tmp_path):
    folders = {store: tmp_path / store for store in STORES[seed % len(KINDS)]}
    for folder in folders.values():
        folder.mkdir()
    reports = await all_at_once(of_seed(seed, store, SECONDS, folder) for store, folder in folders.items())
    for store, report in zip(folders, reports, strict=True):
        assert not report.faults, f"STORE={store} SEED={seed}\n{report.text}"


PAIRS = (
    ("a", "ann"),
    ("b", "bob"),
)  # disturbed workers and accounts; two, as a busy machine may miss one


def hindered(what, step, seconds, *again):
    """Disturb a worker at `step` of a refresh, and order another one to refresh at the times `again`."""
    traps = [Act(0, what, who, account, step, seconds) for who, account in PAIRS]
    trapped = [Act(0.1, "refresh", who, account) for who, account in PAIRS]
    others = [Act(at, "refresh", "c", account) for at in again for _, account in PAIRS]
    return traps + trapped + others


# What is broken, the rule that notices it, the store, and the acts that reveal it. No refresh is due by
# itself: a worker is stopped within these acts only, and never while it has the write lock of SQLite.
BROKEN = {
    "no-lease": (
        "one_process_sends_at_a_time",
        "sqlite",
        Kind(30, {}, lifetime=60),
        hindered("trap", "sending", LEASE - 0.5, 0.3),
    ),
    "no-guard": (
        "no_family_is_lost_without_an_excuse",
        "sqlite",
        Kind(0, {}, lifetime=60),
        hindered("trap", "intended", LONG[1], 3.0),
    ),
    "no-compare": (
        "nothing_newer_is_overwritten",
        "sqlite",
        Kind(30, {}, lifetime=60),
        hindered("trap", "saving", LONG[1], 3.0, 7.0),
    ),
    "no-intent": (
        "no_family_is_lost_without_an_excuse",
        "sqlite",
        Kind(2, {}, lifetime=60),
        hindered("trap-kill", "answered", SHORT[0], 3.0),
    ),
    "no-refill": (
        "nothing_is_missing_after_a_flush",
        "redis",
        Kind(30, {}, lifetime=60),
        [Act(1, "store", "a", "ann", "flush")],
    ),
}


async def test_each_way_to_break_the_product_is_noticed(tmp_path):
    unnoticed = dict.fromkeys(BROKEN, "")
    for attempt in ATTEMPTS:
        runs = [broken(way, tmp_path / f"{way}-{attempt}") for way in unnoticed]
        reports = dict(zip(unnoticed, await all_at_once(runs), strict=True))
        unnoticed = {
            way: report.text for way, report in reports.items() if BROKEN[way][0] not in report.faults
        }
    assert not unnoticed, "\n".join(itertools.chain(*unnoticed.items()))


def broken(way, folder):
    folder.mkdir()
    _, store, kind, acts = BROKEN[way]
    return Run(store, kind, acts, folder, sabotage=way, settles=False)
