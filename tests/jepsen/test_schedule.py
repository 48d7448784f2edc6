from tests.jepsen.run import ACCOUNTS, WORKERS
from tests.jepsen.schedule import KINDS, kind_of, plan


def planned(seed, store="redis"):
    return plan(seed, 12, store, WORKERS, ACCOUNTS)


def test_a_seed_determines_the_whole_run():
    assert planned(7) == planned(7)
    assert planned(7) != planned(7 + len(KINDS))


def test_each_kind_of_run_does_all_that_is_its_own():
    done: dict[int, set[str]] = {kind: set() for kind in range(len(KINDS))}
    for seed in range(100):
        done[seed % len(KINDS)] |= {act.what for act in planned(seed)}
    assert done == {number: set(kind.weights) for number, kind in enumerate(KINDS)}


def test_a_store_is_emptied_only_in_runs_that_allow_it():
    emptied = {kind_of(seed).flush for seed in range(100) for act in planned(seed) if act.how == "flush"}
    assert emptied == {True}


def test_each_logout_is_followed_by_a_login():
    for seed in range(100):
        acts = planned(seed)
        for out in (act for act in acts if act.what == "logout"):
            assert any(act.what == "login" and act.account == out.account and act.at > out.at for act in acts)
