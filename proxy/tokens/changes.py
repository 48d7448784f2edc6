"""The signal "an account has changed": for the live page, notifications and the index of the listing.

A change is a number and a key in one list that all subscriptions read: noting one costs the same whatever the
number of subscriptions, and there is no task for any of them. Changes that come while a subscriber is busy
are one result of its next `wait`.

It is noted whenever something that the status shows may have changed: new tokens, a failure, the end of a
login, a reload, a put of another process, and, within some seconds, a state that changes by time alone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from proxy.store.base import AccountId

REMEMBERED: Final = 1024  # accounts; a subscription that is further behind is told that any may have changed


class Changes:
    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._count = 0
        self._numbers: OrderedDict[AccountId, int] = OrderedDict()  # of an account's last change, in order
        self._forgotten = 0  # the highest number of a change whose account is not in `_numbers` any more
        self._news = asyncio.Event()

    def note(self, key: AccountId | None) -> None:
        """None: any account may have changed."""
        self._count += 1
        if key is None:
            self._numbers.clear()
            self._forgotten = self._count
        else:
            self._numbers[key] = self._count
            self._numbers.move_to_end(key)
            if len(self._numbers) > self._remembered:
                _, self._forgotten = self._numbers.popitem(last=False)
        self._news.set()

    def subscribe(self) -> Subscription:
        """For the changes from now on."""
        return Subscription(self, self._count)

    def since(self, seen: int) -> tuple[int, frozenset[AccountId] | None]:
        """The number of the last change, and the accounts changed after the change `seen`; None: any."""
        if seen < self._forgotten:
            return self._count, None
        keys = set()
        for key in reversed(self._numbers):
            if self._numbers[key] <= seen:
                break
            keys.add(key)
        return self._count, frozenset(keys)

    async def wait_after(self, seen: int) -> None:
        """Return when there is a change after the change `seen`."""
        while self._count <= seen:
            if self._news.is_set():
                self._news = asyncio.Event()
            await self._news.wait()


class Subscription:
    """The changes that one subscriber has not seen yet. To end it, drop it."""

    def __init__(self, changes: Changes, seen: int) -> None:
        self._changes = changes
        self._seen = seen

    def take(self) -> frozenset[AccountId] | None:
        """The accounts that have changed since the last call, perhaps none. None: any may have changed."""
        self._seen, keys = self._changes.since(self._seen)
        return keys

    async def wait(self) -> frozenset[AccountId] | None:
        """As `take`, but wait for a change if there is none yet. A cancelled call loses nothing."""
        await self._changes.wait_after(self._seen)
        return self.take()
