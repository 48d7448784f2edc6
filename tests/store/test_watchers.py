"""Each watcher gets every change since it was added, and a pending one only once."""

from __future__ import annotations

import asyncio

from proxy.store.base import AccountId
from proxy.store.watchers import Watchers

ANN, BOB = AccountId("crm", "ann"), AccountId("crm", "bob")


async def test_every_watcher_gets_the_keys_in_order() -> None:
    watchers = Watchers()
    early = watchers.add()
    watchers.tell([BOB])
    late = watchers.add()
    watchers.tell([ANN])
    assert [await anext(early) for _ in range(2)] == [BOB, ANN]
    assert [await anext(late)] == [ANN]


async def test_none_replaces_all_pending_keys() -> None:
    watchers = Watchers()
    watcher = watchers.add()
    for keys in ([ANN], [None], [BOB]):
        watchers.tell(keys)
    watchers.end()
    assert [key async for key in watcher] == [None]


async def test_a_watcher_added_after_the_end_is_ended() -> None:
    watchers = Watchers()
    watchers.end()
    assert [key async for key in watchers.add()] == []


async def test_a_pending_key_is_delivered_once() -> None:
    watchers = Watchers()
    watcher = watchers.add()
    for _ in range(1000):
        watchers.tell([ANN, BOB])
    watchers.end()
    assert [key async for key in watcher] == [ANN, BOB]


async def test_a_waiting_watcher_wakes_for_keys_and_for_the_end() -> None:
    watchers = Watchers()
    watcher = watchers.add()
    for wake, expected in ((lambda: watchers.tell([ANN]), ANN), (watchers.end, "the end")):
        waiting = asyncio.create_task(anext(watcher, "the end"))
        await asyncio.sleep(0)
        wake()
        assert await waiting == expected


def test_an_unreferenced_watcher_is_collected() -> None:
    watchers = Watchers()
    watchers.add()
    assert not list(watchers._all)
