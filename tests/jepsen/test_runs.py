"""Short runs on each store; `make jepsen` has long ones. And the checker notices a product that is broken."""

import asyncio

import pytest

from tests.jepsen.run import ACCOUNTS, WORKERS, Run, of_seed, run
from tests.jepsen.schedule import KINDS, LONG, Act, Kind

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


def each(what, how, seconds=LONG[0], *, every=1.0, times=5):
    """Acts on one worker after the other, and one account after the other."""
    turns = zip(range(times), WORKERS * times, ACCOUNTS * times, strict=False)
    return [Act(number * every, what, who, account, how, seconds) for number, who, account in turns]


# What is broken, the rules that notice it, and what it takes to see it.
BROKEN = {
    "no-lease": ({"nobody_sends_while_another_does"}, "sqlite", Kind(30, {}), each("pause", "-", 0.1)),
    "no-guard": (
        {"no_family_is_lost_without_an_excuse"},
        "sqlite",
        Kind(0, {}),
        each("trap", "intended", LONG[1], times=2),
    ),
    "no-compare": (
        {"nothing_newer_is_overwritten"},
        "sqlite",
        Kind(30, {}),
        each("trap", "saving", LONG[1], times=2),
    ),
    "no-intent": (
        {"no_family_is_lost_without_an_excuse"},
        "sqlite",
        Kind(2, {}, lifetime=60),
        sorted(each("trap-kill", "answered") + each("refresh", "-", times=12), key=lambda act: act.at),
    ),
    "no-refill": ({"nothing_is_gone"}, "redis", Kind(30, {}), [Act(1, "store", "a", "ann", "flush")]),
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_product_is_noticed(way, tmp_path):
    rules, store, kind, acts = BROKEN[way]
    report = run(Run(store, kind, acts, tmp_path, sabotage=way, settles=False))
    assert rules <= set(report.faults), report.text
