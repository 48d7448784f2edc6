"""Each watcher is told everything since it began, and nothing twice that it has not yet taken."""

from __future__ import annotations

import asyncio

from proxy.store.base import AccountId
from proxy.store.watchers import Watchers

ANN, BOB = AccountId("crm", "ann"), AccountId("crm", "bob")


async def test_every_watcher_is_told_in_the_order_of_the_news() -> None:
    watchers = Watchers()
    early = watchers.add()
    watchers.tell([BOB])
    late = watchers.add()
    watchers.tell([ANN])
    assert [await anext(early) for _ in range(2)] == [BOB, ANN]
    assert [await anext(late)] == [ANN]


async def test_that_anything_may_have_changed_says_it_all() -> None:
    watchers = Watchers()
    watcher = watchers.add()
    for keys in ([ANN], [None], [BOB]):
        watchers.tell(keys)
    watchers.end()
    assert [key async for key in watcher] == [None]


async def test_who_comes_after_the_end_has_nothing_to_wait_for() -> None:
    watchers = Watchers()
    watchers.end()
    assert [key async for key in watchers.add()] == []


async def test_what_is_not_yet_taken_is_told_once() -> None:
    watchers = Watchers()
    watcher = watchers.add()
    for _ in range(1000):
        watchers.tell([ANN, BOB])
    watchers.end()
    assert [key async for key in watcher] == [ANN, BOB]


async def test_who_waits_is_woken_by_news_and_by_the_end() -> None:
    watchers = Watchers()
    watcher = watchers.add()
    for wake, expected in ((lambda: watchers.tell([ANN]), ANN), (watchers.end, "the end")):
        waiting = asyncio.create_task(anext(watcher, "the end"))
        await asyncio.sleep(0)
        wake()
        assert await waiting == expected


def test_a_watcher_that_nobody_holds_is_forgotten() -> None:
    watchers = Watchers()
    watchers.add()
    assert not list(watchers._all)
