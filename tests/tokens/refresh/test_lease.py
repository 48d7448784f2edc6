"""One holder at a time, among tasks and processes, dead ones included."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.clock import SystemClock
from proxy.errors import StoreError
from proxy.store.memory import MemoryStore
from proxy.store.sqlite.store import SQLiteStore
from proxy.tokens.refresh import lease
from proxy.tokens.refresh.lease import Lease, LeaseLost
from tests.fakes.clock import FakeClock

HOLDER = Path(__file__).parents[1] / "holder.py"
CLOCK = SystemClock()
ME = lease.this_process(CLOCK.boot_id)
BOOT, NAMESPACE, PID, STARTED = ME.split("/")
TELLS = pytest.mark.skipif(not NAMESPACE, reason="this system doesn't tell whether a process lives")


@pytest.fixture
def store():
    return MemoryStore(SystemClock())


@pytest.fixture
async def sqlite(tmp_path):
    store = await SQLiteStore.open(tmp_path / "tokens.db", SystemClock())
    yield store
    await store.close()


@pytest.fixture
def holder(tmp_path, sqlite):
    """A process that holds the lease `x` in the SQLite file."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(HOLDER), str(tmp_path / "tokens.db"), "x"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


async def test_two_tasks_of_one_process_never_hold_it_at_once(store):
    inside = most = 0

    async def work():
        nonlocal inside, most
        async with lease.holding(store, "x", ME, CLOCK):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(5)))
    assert most == 1


async def test_other_names_are_other_leases(store):
    async with lease.holding(store, "x", ME, CLOCK), lease.holding(store, "y", ME, CLOCK):
        pass


async def test_it_is_given_back_when_the_work_fails(store):
    with pytest.raises(ZeroDivisionError):
        async with lease.holding(store, "x", ME, CLOCK):
            raise ZeroDivisionError
    assert await store.lease("x", "somebody", 1.0) is None


async def test_it_is_renewed_while_the_work_lasts(store, monkeypatch):
    monkeypatch.setattr(lease, "LIFETIME", 0.2)
    monkeypatch.setattr(lease, "RENEW_EVERY", 0.05)
    async with lease.holding(store, "x", ME, CLOCK):
        for _ in range(5):
            await asyncio.sleep(0.08)
            assert (await store.lease("x", "somebody", 1.0)).startswith(ME)


async def test_it_is_ours_for_as_long_as_it_was_given_and_not_to_the_last_moment(store):
    clock = FakeClock()
    async with lease.holding(store, "x", ME, clock) as mine:
        clock.advance(lease.LIFETIME - lease.LAST_MOMENT - 0.1)
        mine.check()
        clock.advance(0.1)  # the process was stopped, say
        with pytest.raises(LeaseLost):
            mine.check()


async def test_a_renewal_counts_from_when_it_was_asked_for_and_only_if_it_was_given(store, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_EVERY", 0.001)
    clock = FakeClock()
    async with lease.holding(store, "x", ME, clock) as mine:
        clock.advance(lease.LIFETIME - lease.LAST_MOMENT)
        with pytest.raises(LeaseLost):
            mine.check()
        await asyncio.sleep(0.05)
        mine.check()
        await store.release("x", next(iter(store._leases.values())).owner)
        await store.lease("x", "another", 60)
        clock.advance(lease.LIFETIME - lease.LAST_MOMENT)
        await asyncio.sleep(0.05)
        with pytest.raises(LeaseLost):
            mine.check()


async def test_a_renewal_after_the_end_is_ignored_since_another_may_have_held_it(store, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_EVERY", 0.001)
    clock = FakeClock()
    async with lease.holding(store, "x", ME, clock) as mine:
        clock.advance(lease.LIFETIME)
        await asyncio.sleep(0.05)
        with pytest.raises(LeaseLost):
            mine.check()


async def test_a_store_that_fails_while_it_is_held_does_not_undo_the_work(store):
    async with lease.holding(store, "x", ME, CLOCK):

        async def fail(*_args):
            raise StoreError("the disk is gone")

        store.release = fail


@TELLS
async def test_a_killed_process_is_succeeded_at_once(sqlite, holder):
    holder.kill()  # -9: it releases nothing
    holder.wait()
    before = time.monotonic()
    async with lease.holding(sqlite, "x", ME, CLOCK):
        assert time.monotonic() - before < lease.LIFETIME / 2


@TELLS
async def test_a_process_that_lives_is_waited_for(sqlite, holder):
    taking = asyncio.create_task(lease._acquire(sqlite, "x", f"{ME}/1", Lease(CLOCK), CLOCK))
    await asyncio.sleep(4 * lease.POLL_EVERY)
    assert not taking.done()
    holder.kill()
    await asyncio.wait_for(taking, lease.LIFETIME / 2)


JUDGED = {  # a holder's name, and whether it is certainly dead
    "this process": (ME, False),
    "work of this process": (f"{ME}/abcd1234", False),
    "its pid was given again": (f"{BOOT}/{NAMESPACE}/{PID}/1/abcd1234", True),
    "no such pid": (f"{BOOT}/{NAMESPACE}/4194304/1/abcd1234", True),  # above the largest
    "in another container": (f"{BOOT}/other/4194304/1/abcd1234", False),
    "on a system that doesn't tell": (f"{BOOT}//4194304/1/abcd1234", False),
    "on another machine": (f"other/{NAMESPACE}/4194304/1/abcd1234", False),
    "cut short": (f"{BOOT}/{NAMESPACE}", False),
    "nobody": ("", False),
}


@TELLS
@pytest.mark.parametrize(("holder_name", "dead"), JUDGED.values(), ids=JUDGED)
def test_only_a_holder_that_has_certainly_ended_is_dead(holder_name, dead):
    assert lease.is_dead(holder_name, f"{ME}/00000000") is dead


@TELLS
def test_a_zombie_is_dead():
    with subprocess.Popen(["sleep", "60"]) as process:
        name = f"{BOOT}/{NAMESPACE}/{process.pid}/{lease._start_time(process.pid)}"
        assert not lease.is_dead(name, ME)
        process.kill()
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.002)
        assert lease.is_dead(name, ME)
