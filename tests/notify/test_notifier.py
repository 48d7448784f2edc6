"""Which reports a process sends: a real program, a real store, accounts that die and come back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from proxy.config.notify import Notify
from proxy.notify import notifier as notifier_module
from proxy.notify import reported
from proxy.notify.decide import AT_ONCE, PAUSE
from proxy.notify.metrics import NotificationMetrics
from proxy.notify.notifier import LONGEST_PAUSE, SUMMARY_EVERY, Notifier
from proxy.store.base import AccountId
from proxy.store.memory import MemoryStore
from proxy.store.seal import SealedStore
from tests.fakes.clock import FakeClock
from tests.notify.conftest import Program
from tests.patience import FOR_CERTAIN, until
from tests.tokens import conftest
from tests.tokens.conftest import SEAL, FaultyStore, Side

NEEDS = "login_required"
LONG_AGO = 10 * PAUSE


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier_module, "SETTLE", 0.02)
    monkeypatch.setattr(notifier_module, "LEASE_AGAIN", 0.02)


@dataclass
class Replica:
    """A process with notifications."""

    side: Side
    notifier: Any = None
    turns: int = 0

    async def die(self, *names: str) -> None:
        for name in names:
            record = await self.side.stored(name)
            assert record is not None
            dead = replace(record, generation=record.generation + 1, state="login_required", due_at=None)
            await self.side.store.put(dead, expected=record.generation)

    async def live(self, *names: str) -> None:
        self.side.clock.advance(0.001)  # other tokens than before
        for name in names:
            await self.side.log_in(name)

    async def settled(self) -> None:
        """All that had changed has been looked at, and reported where it was due."""
        before = self.turns
        async with asyncio.timeout(FOR_CERTAIN):
            while self.turns < before + 3:  # one may be under way
                self.side.tokens.changes.note(None)
                await asyncio.sleep(0.02)

    async def pass_time(self, seconds: float) -> None:
        self.side.clock.advance(seconds)
        await self.settled()

    def notify(self, settings: Notify | None) -> None:
        self.notifier.use(self.side.config.model_copy(update={"notify": settings}))

    @property
    def outcomes(self) -> dict[str, int]:
        return dict(self.notifier._metrics.outcomes)


@asynccontextmanager
async def notifying(side: Side, settings: Notify | None) -> AsyncIterator[Replica]:
    metrics = NotificationMetrics("token_proxy_", side.metrics.registry)
    notifier = Notifier(side.tokens, side.store, side.clock, metrics)
    replica = Replica(side, notifier)
    turn = notifier._turn

    async def counted() -> None:
        await turn()
        replica.turns += 1

    notifier._turn = counted  # type: ignore[method-assign]
    replica.notify(settings)
    task = asyncio.create_task(notifier.run())
    try:
        yield replica
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def faulty_store(clock: FakeClock) -> FaultyStore:
    return FaultyStore(SealedStore(MemoryStore(clock), SEAL))


@pytest.fixture
def settings(program: Program) -> Notify:
    return Notify(command=program.command)


@pytest.fixture
async def replica(make_side: Callable[..., Any], settings: Notify) -> AsyncIterator[Replica]:
    async with make_side() as side, notifying(side, settings) as made:
        yield made


async def test_one_report_when_it_needs_a_person_and_one_when_it_works(
    replica: Replica, program: Program
) -> None:
    await replica.live("ann", "bob")
    await replica.settled()
    assert program.got() == []
    await replica.die("ann")
    await until(program.got)
    await replica.settled()
    await replica.pass_time(LONG_AGO)
    await replica.live("ann")
    await until(lambda: len(program.got()) == 2)
    await replica.settled()
    assert program.said() == [("ann", NEEDS), ("ann", "valid")]
    assert program.got()[0]["login_url"] == "http://127.0.0.1:8081/login/crm/ann"
    assert replica.outcomes == {"sent": 2, "failed": 0}


async def test_a_token_that_ends_by_time_alone_is_reported(replica: Replica, program: Program) -> None:
    side = replica.side
    await side.tokens.adopt(AccountId("crm", "ann"), replace(side.issued(), refresh_token=None))
    await replica.settled()
    assert program.got() == []
    await replica.pass_time(3600)
    assert program.said() == [("ann", NEEDS)]


async def test_what_people_know_is_not_reported(replica: Replica, program: Program) -> None:
    """Nobody has logged in to `default` yet; ann was logged out."""
    await replica.live("ann")
    await replica.side.tokens.forget(AccountId("crm", "ann"))
    await replica.settled()
    assert program.got() == []


async def test_a_restart_repeats_nothing_and_makes_up_for_what_came_meanwhile(
    make_side: Callable[..., Any],
    make_server: Callable[..., Any],
    open_sqlite: Any,
    settings: Notify,
    program: Program,
) -> None:
    async with make_server() as server:
        async with (
            make_side(server=server, store=await open_sqlite()) as side,
            notifying(side, settings) as replica,
        ):
            await replica.live("ann", "bob", "eve")
            await replica.die("ann", "bob")
            await until(lambda: len(program.got()) == 2)
            await replica.settled()
        async with make_side(server=server, store=await open_sqlite()) as side:
            stopped = Replica(side)  # without notifications
            side.clock.advance(LONG_AGO)
            await stopped.live("bob")
            await stopped.die("eve")
        async with (
            make_side(server=server, store=await open_sqlite()) as side,
            notifying(side, settings) as replica,
        ):
            await until(lambda: len(program.got()) == 4)
            await replica.settled()
            assert sorted(program.said()[2:]) == [("bob", "valid"), ("eve", NEEDS)]


async def test_accounts_that_are_not_in_memory_are_made_up_for_too(
    make_side: Callable[..., Any],
    make_server: Callable[..., Any],
    open_sqlite: Any,
    settings: Notify,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conftest, "CONFIG", conftest.CONFIG + "account_labels = 1\n")
    monkeypatch.setattr(notifier_module, "QUEUED", 2)
    monkeypatch.setattr(notifier_module, "OUTLINES", 2)
    dead, mended = [f"a{number}" for number in range(4)], ["m1", "m2"]
    async with make_server() as server:
        async with (
            make_side(server=server, store=await open_sqlite()) as side,
            notifying(side, settings) as replica,
        ):
            await replica.live(*dead, *mended)
            await replica.die(*mended)
            await until(lambda: len(program.got()) == 2)
            await replica.settled()
        async with make_side(server=server, store=await open_sqlite()) as side:
            side.clock.advance(LONG_AGO)
            await Replica(side).die(*dead)
            await side.tokens.adopt(AccountId("crm", "short"), replace(side.issued(), refresh_token=None))
            side.clock.advance(3600)
            await Replica(side).live(*mended)
        async with make_side(server=server, store=await open_sqlite()) as side:
            assert {each.key.account for each in side.tokens.accounts()} == {"default"}
            async with notifying(side, settings):
                await until(lambda: len(program.got()) == 9)
    expected = [*((name, NEEDS) for name in (*dead, "short")), *((name, "valid") for name in mended)]
    assert sorted(program.said()[2:]) == sorted(expected)


async def test_of_two_replicas_one_reports(
    make_side: Callable[..., Any],
    make_server: Callable[..., Any],
    open_sqlite: Any,
    settings: Notify,
    program: Program,
) -> None:
    names = [f"a{number}" for number in range(AT_ONCE // 2)]
    async with (
        make_server() as server,
        make_side(server=server, store=await open_sqlite()) as one,
        make_side(server=server, store=await open_sqlite()) as other,
        notifying(one, settings) as first,
        notifying(other, settings) as second,
    ):
        await first.live(*names)
        await other.until(lambda: {*names} <= {each.key.account for each in other.tokens.accounts()})
        await first.die(*names)
        await until(lambda: len(program.got()) >= len(names))
        await first.settled()
        await second.settled()
        one.clock.advance(LONG_AGO)
        await second.live(*names)
        await until(lambda: len(program.got()) >= 2 * len(names))
        await first.settled()
        await second.settled()
        said = [(name, state) for state in (NEEDS, "valid") for name in names]
        assert sorted(program.said()) == sorted(said)
        sent = first.outcomes["sent"] + second.outcomes["sent"]
        assert sent == len(said)


async def test_one_that_flaps_is_reported_once_in_ten_minutes(replica: Replica, program: Program) -> None:
    await replica.live("ann")
    await replica.die("ann")
    await replica.settled()
    for _ in range(3):
        await replica.live("ann")
        await replica.settled()
        await replica.die("ann")
        await replica.settled()
    assert program.said() == [("ann", NEEDS), ("ann", "valid")]
    await replica.pass_time(PAUSE - 1)
    assert len(program.got()) == 2
    await replica.pass_time(1.5)
    assert program.said()[2:] == [("ann", NEEDS)]
    await replica.live("ann")
    await replica.settled()
    assert len(program.got()) == 3  # it is known to flap now
    await replica.pass_time(PAUSE)
    assert program.said()[3:] == [("ann", "valid")]


async def test_a_clock_that_is_set_back_delays_nothing_for_long(replica: Replica, program: Program) -> None:
    await replica.live("ann")
    await replica.die("ann")
    await replica.settled()
    replica.side.clock.jump(-40 * 86400.0)
    await replica.live("ann")
    await replica.settled()
    await replica.pass_time(PAUSE)
    await replica.die("ann")
    await replica.settled()
    await replica.pass_time(PAUSE)
    assert program.said() == [("ann", NEEDS), ("ann", "valid"), ("ann", NEEDS)]


async def test_many_at_once_are_one_message_and_no_more_than_one_a_minute(
    replica: Replica, program: Program
) -> None:
    names = [f"a{number:02}" for number in range(AT_ONCE + 5)]
    await replica.live(*names, "late", "later")
    await replica.die(*names)
    await until(program.got)
    await replica.settled()
    (message,) = program.got()
    assert message["more"] == AT_ONCE + 4
    assert f"and {AT_ONCE + 4} more need a person" in message["text"]
    assert message["login_url"] == "http://127.0.0.1:8081/?state=attention"
    await replica.live(*names)
    await replica.die("late")
    await replica.settled()
    assert len(program.got()) == 1  # again more than there is room for
    await replica.pass_time(SUMMARY_EVERY)
    assert [(each["state"], each["more"]) for each in program.got()[1:]] == [
        (NEEDS, 0),
        ("valid", AT_ONCE + 4),
    ]
    await replica.die("later")
    await replica.settled()
    assert program.said()[3:] == [("later", NEEDS)]
    assert (await reported.read(replica.side.store, AccountId("crm", names[-1])))[1] is not None


async def test_more_than_the_queue_holds_are_reported_too(
    replica: Replica, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier_module, "QUEUED", 4)
    names = [f"a{number}" for number in range(9)]
    await replica.live(*names)
    await replica.die(*names)
    await until(lambda: len(program.got()) == len(names))
    assert {account for account, _ in program.said()} == {*names}


async def test_a_failed_delivery_is_tried_again_later_and_later(
    replica: Replica, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (program.folder / "broken").touch()
    await replica.live("ann")
    await replica.die("ann")
    await until(lambda: replica.outcomes["failed"])
    for pause in (5, 10, 20, 40, 80, 160, LONGEST_PAUSE, LONGEST_PAUSE):
        failed = replica.outcomes["failed"]
        await replica.pass_time(pause - 0.5)
        assert replica.outcomes["failed"] == failed
        await replica.pass_time(0.6)
        assert replica.outcomes["failed"] == failed + 1
    (program.folder / "broken").unlink()
    await replica.pass_time(LONGEST_PAUSE)
    assert program.said() == [("ann", NEEDS)]
    failures = [each for each in caplog.records if getattr(each, "event", "") == "notify_failed"]
    assert failures[0].fields == {
        "error": "exit_code",
        "status": 1,
        "failures": 1,
        "waiting": 1,
        "next_try_s": 5.0,
    }
    assert [each.event for each in caplog.records if getattr(each, "event", "") == "notified"] == ["notified"]


async def test_what_is_over_before_it_could_be_delivered_is_not_reported(
    replica: Replica, program: Program
) -> None:
    (program.folder / "broken").touch()
    await replica.live("ann", "bob")
    await replica.die("ann", "bob")
    await until(lambda: replica.outcomes["failed"])
    await replica.live("ann")
    (program.folder / "broken").unlink()
    await replica.pass_time(LONG_AGO)
    assert program.said() == [("bob", NEEDS)]


async def test_a_store_that_fails_delays_a_report_and_loses_none(
    make_side: Callable[..., Any],
    faulty_store: FaultyStore,
    settings: Notify,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notifier_module, "STORE_PAUSE", 0.05)
    async with make_side(store=faulty_store) as side:
        faulty_store.failing = {"page"}
        async with notifying(side, settings) as replica:
            await until(lambda: replica.turns >= 2)  # it can't begin
            faulty_store.failing = {"lease"}
            await replica.live("ann")
            await replica.die("ann")
            await replica.pass_time(1)
            assert program.got() == []
            faulty_store.failing = set()
            await replica.pass_time(1)
            assert program.said() == [("ann", NEEDS)]


async def test_a_report_that_can_not_be_noted_is_not_repeated_here(
    make_side: Callable[..., Any],
    faulty_store: FaultyStore,
    settings: Notify,
    program: Program,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with make_side(store=faulty_store) as side, notifying(side, settings) as replica:
        await replica.live("ann")
        await replica.die("ann")
        faulty_store.failing = {"put"}
        await until(program.got)
        await replica.settled()
        faulty_store.failing = set()
        await replica.pass_time(LONG_AGO)
        assert program.said() == [("ann", NEEDS)]
    (warning,) = [each for each in caplog.records if getattr(each, "event", "") == "notification_not_noted"]
    assert warning.fields == {"credential": "crm", "account": "ann"}


async def test_one_whose_credential_is_removed_is_forgotten(replica: Replica, program: Program) -> None:
    (program.folder / "broken").touch()
    await replica.live("ann")
    await replica.die("ann")
    await until(lambda: replica.outcomes["failed"])
    side = replica.side
    config = side.config.model_copy(update={"credentials": {}, "routes": ()})
    side.tokens.use(config, side.tokens.planned(config))
    (program.folder / "broken").unlink()
    await replica.pass_time(LONG_AGO)
    assert program.got() == []
    assert replica.notifier._waiting == {}


async def test_notifications_that_are_configured_later_tell_what_is_so_then(
    make_side: Callable[..., Any], settings: Notify, program: Program
) -> None:
    async with make_side() as side, notifying(side, None) as replica:
        await replica.live("ann", "bob")
        await replica.die("ann")
        await asyncio.sleep(0.3)
        assert program.got() == []
        replica.notify(settings)
        await until(program.got)
        await replica.settled()
        replica.notify(None)
        side.tokens.changes.note(None)
        await replica.die("bob")
        await asyncio.sleep(0.3)
        assert program.said() == [("ann", NEEDS)]
        replica.notify(settings)
        await until(lambda: len(program.got()) == 2)
        assert program.said()[1:] == [("bob", NEEDS)]


async def test_another_program_is_used_at_once(replica: Replica, program: Program) -> None:
    (program.folder / "broken").touch()
    await replica.live("ann")
    await replica.die("ann")
    await until(lambda: replica.outcomes["failed"])
    working = replace(program.command, argv=("sh", "-c", "cat >> notified"))
    replica.notify(Notify(command=working))
    await replica.settled()
    assert program.said() == [("ann", NEEDS)]


async def test_the_metric_exists_only_where_notifications_are_configured(replica: Replica) -> None:
    def sample(outcome: str) -> float | None:
        registry = replica.side.metrics.registry
        return registry.get_sample_value("token_proxy_notifications_total", {"outcome": outcome})

    assert (sample("sent"), sample("failed")) == (0.0, 0.0)
    replica.notify(None)
    assert sample("sent") is None


async def test_a_busy_proxy_without_dead_accounts_reads_nothing(
    make_side: Callable[..., Any], faulty_store: FaultyStore, settings: Notify
) -> None:
    async with make_side(store=faulty_store) as side, notifying(side, settings) as replica:
        await replica.live("ann")
        await replica.settled()
        before = faulty_store.calls.copy()
        for _ in range(5):
            await side.tokens.refresh_now(side.account("ann"))
            await replica.settled()
        made = faulty_store.calls - before
        assert "page" not in made
        assert made["lease"] == 5  # of the refreshes
