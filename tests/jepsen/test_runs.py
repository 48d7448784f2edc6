"""Short runs on each store; `make jepsen` has long ones. And the checker notices a product that is broken."""

import asyncio
import itertools

import pytest

from tests.jepsen.run import ACCOUNTS, WORKERS, Run, of_seed, run
from tests.jepsen.schedule import KINDS, LONG, SHORT, Act, Kind

SECONDS = 8  # that the nemesis has
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
async def test_nothing_is_lost_whatever_befalls_processes_store_and_server(seed, tmp_path):
    folders = {store: tmp_path / store for store in STORES[seed % len(KINDS)]}
    for folder in folders.values():
        folder.mkdir()
    reports = await all_at_once(of_seed(seed, store, SECONDS, folder) for store, folder in folders.items())
    for store, report in zip(folders, reports, strict=True):
        assert not report.faults, f"STORE={store} SEED={seed}\n{report.text}"


def each(what, how="-", seconds=LONG[1], *, every=1.0, times=2):
    """Acts on one worker after the other, and one account after the other."""
    turns = zip(range(times), WORKERS * times, ACCOUNTS * times, strict=False)
    return [Act(number * every, what, who, account, how, seconds) for number, who, account in turns]


def mixed(*acts):
    return sorted(itertools.chain(*acts), key=lambda act: act.at)


# What is broken, and by which rule that is noticed, where, and what it takes to see it.
BROKEN = {
    "no-lease": (
        "nobody_sends_while_another_does",
        "sqlite",
        Kind(30, {}),
        each("pause", seconds=1, times=4),
    ),
    "no-guard": (
        "no_family_is_lost_without_an_excuse",
        "sqlite",
        Kind(0, {}),
        each("trap", "intended"),
    ),
    "no-compare": ("nothing_newer_is_overwritten", "sqlite", Kind(30, {}), each("trap", "saving")),
    "no-intent": (
        "no_family_is_lost_without_an_excuse",
        "sqlite",
        Kind(2, {}, lifetime=60),
        mixed(each("trap-kill", "answered", SHORT[0], times=5), each("refresh", times=12)),
    ),
    "no-refill": ("nothing_is_gone", "redis", Kind(30, {}), [Act(1, "store", "a", "ann", "flush")]),
}


async def test_each_way_to_break_the_product_is_noticed(tmp_path):
    runs = []
    for way, (_, store, kind, acts) in BROKEN.items():
        folder = tmp_path / way
        folder.mkdir()
        runs.append(Run(store, kind, acts, folder, sabotage=way, settles=False))
    reports = dict(zip(BROKEN, await all_at_once(runs), strict=True))
    unnoticed = {way: report.text for way, report in reports.items() if BROKEN[way][0] not in report.faults}
    assert not unnoticed, "\n".join(itertools.chain(*unnoticed.items()))
