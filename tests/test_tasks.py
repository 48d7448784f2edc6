import asyncio
import gc
import logging

import pytest

from proxy import tasks


async def test_a_task_has_its_name_and_gives_its_result():
    async def work():
        return asyncio.current_task().get_name()

    assert await tasks.spawn(work(), "count sheep") == "count sheep"


async def test_a_task_without_references_is_kept_until_it_ends():
    started, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work():
        started.set()
        await go.wait()
        done.set()

    tasks.spawn(work(), "go on")
    await started.wait()
    gc.collect()
    go.set()
    await done.wait()


async def test_a_failure_is_logged_with_the_tasks_name(caplog):
    async def work():
        raise ZeroDivisionError

    await asyncio.wait([tasks.spawn(work(), "divide")])
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("proxy.tasks", logging.ERROR)
    assert record.getMessage() == "task divide failed"
    assert record.exc_info[0] is ZeroDivisionError


async def test_cancel_waits_for_the_end_and_logs_nothing(caplog):
    ended = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    first, second = tasks.spawn(work(), "one"), tasks.spawn(work(), "two")
    await asyncio.sleep(0)
    await tasks.cancel(first, None, second)
    assert ended == [True, True]
    await tasks.cancel(first, None)
    assert caplog.records == []


# -- loops that must not end


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(tasks, "FIRST_PAUSE", 0.0)


class Odd(Exception):
    """An unexpected exception."""


@pytest.mark.parametrize("error", [Odd("odd"), asyncio.CancelledError()])
async def test_an_odd_exception_is_logged_and_counted_and_the_loop_goes_on(caplog, no_pause, error):
    turns, done = [], asyncio.Event()

    async def step():
        turns.append(len(turns))
        if len(turns) == 1:
            raise error
        done.set()
        await asyncio.sleep(0)

    before = tasks.internal_errors["count turns"]
    loop = tasks.forever("count turns", step)
    assert "count turns" in tasks.internal_errors
    await asyncio.wait_for(done.wait(), 5)
    await tasks.cancel(loop)
    assert loop.cancelled()
    assert tasks.internal_errors["count turns"] == before + 1
    (record,) = caplog.records
    assert (record.levelno, record.exc_info[0]) == (logging.ERROR, type(error))
    assert "count turns" in record.getMessage()


async def test_a_loop_that_is_cancelled_in_its_pause_or_its_step_ends():
    async def fails():
        raise Odd

    async def waits():
        await asyncio.Event().wait()

    for step in (fails, waits):
        loop = tasks.forever("end", step)
        await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            await tasks.cancel(loop)
        assert loop.cancelled()


async def test_a_step_that_has_finished_ends_the_loop(caplog):
    async def step():
        raise tasks.Finished

    await asyncio.wait_for(tasks.forever("finish", step), 5)
    assert caplog.records == []


def test_the_pause_doubles_to_its_longest_and_is_short_again_after_a_success():
    guard = tasks.Guard("pause")
    pauses = [guard.failed(Odd()) for _ in range(12)]
    assert pauses[:3] == [tasks.FIRST_PAUSE, 2 * tasks.FIRST_PAUSE, 4 * tasks.FIRST_PAUSE]
    assert pauses[-1] == tasks.LONGEST_PAUSE
    guard.worked()
    assert guard.failed(Odd()) == tasks.FIRST_PAUSE


async def test_a_failed_task_is_counted_without_its_name():
    async def work():
        raise Odd

    before = tasks.internal_errors[tasks.OTHER]
    await asyncio.wait([tasks.spawn(work(), "refresh crm/alice")])
    assert tasks.internal_errors[tasks.OTHER] == before + 1
    assert "refresh crm/alice" not in tasks.internal_errors
