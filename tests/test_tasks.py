import asyncio
import gc
import logging

from proxy import tasks


async def test_a_task_has_its_name_and_gives_its_result():
    async def work():
        return asyncio.current_task().get_name()

    assert await tasks.spawn(work(), "count sheep") == "count sheep"


async def test_a_task_that_nobody_holds_is_kept_until_it_ends():
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
