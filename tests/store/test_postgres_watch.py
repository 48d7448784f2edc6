"""What a watcher is told, and when a lease may be taken over, decided without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from proxy.store.base import Key
from proxy.store.postgres_watch import Feed, Steadiness

ANN, BOB = Key("crm", "ann"), Key("crm", "bob")
LOOKS = [100.0, 100.25, 100.5, 101.4]  # by the server's clock


@pytest.mark.parametrize(
    ("more", "since"),
    [
        ([], 100.0),
        ([(102.4, True)], 100.0),
        ([(102.41, True)], 102.41),  # it stood still, or its clock was set
        ([(102.41, True), (102.6, True)], 102.41),
        ([(101.3, True)], 101.3),  # its clock was set back
        ([(101.5, False)], 101.5),  # it was restarted, or the connection was lost
    ],
)
def test_a_lease_is_taken_over_after_its_length_without_a_gap(
    more: list[tuple[float, bool]], since: float
) -> None:
    steady = Steadiness()
    looks = [(at, True) for at in LOOKS] + more
    for at, unbroken in looks:
        steady.answered(at, unbroken=unbroken)
    assert steady.window(3) == (since + 3, looks[-1][0] + 1)


def test_before_the_first_look_nothing_is_taken_over() -> None:
    after, before = Steadiness().window(3)
    assert after > before


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        ([[ANN], [BOB, ANN]], [ANN, BOB]),
        ([[ANN], [], [BOB]], [ANN, BOB]),
        ([[ANN, BOB], [None]], [None]),
        ([[None], [ANN]], [None]),
    ],
)
async def test_a_watcher_that_was_slow_is_told_each_key_once_or_that_anything_may_be_new(
    told: Iterable[Iterable[Key | None]], heard: list[Key | None]
) -> None:
    feed = Feed()
    for keys in told:
        feed.tell(keys)
    assert [await anext(feed) for _ in heard] == heard
    waiting = asyncio.create_task(anext(feed, "the end"))
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.end()
    assert await waiting == "the end"
