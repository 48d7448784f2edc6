"""The stores of a run, each on a real server of its own, and the faults of the nemesis."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from tests.jepsen.history import Recorder, now
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis

Step = Callable[[], object]  # it blocks


class Backend:
    """`outages`: the ways to take it down, each with the way back; `empty` deletes all its data."""

    def __init__(
        self, url: str, outages: Mapping[str, tuple[Step, Step]] | None = None, empty: Step | None = None
    ) -> None:
        self.url = url
        self._outages = outages or {}
        self._empty = empty
        self._one_at_a_time = asyncio.Lock()

    async def disturb(self, how: str, seconds: float, recorder: Recorder) -> None:
        if self._one_at_a_time.locked():
            return  # the previous one took longer than planned
        async with self._one_at_a_time:
            if how == "flush":
                await self._flush(recorder)
            else:
                await self._take_away(how, seconds, recorder)

    async def _flush(self, recorder: Recorder) -> None:
        assert self._empty is not None
        since = now()
        await asyncio.to_thread(self._empty)
        recorder.note("flushed", since=since)

    async def _take_away(self, how: str, seconds: float, recorder: Recorder) -> None:
        take, bring_back = self._outages[how]
        recorder.note("store-down", how=how)
        await asyncio.to_thread(take)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(bring_back)
        recorder.note("store-up")


@contextmanager
def _sqlite() -> Iterator[Backend]:
    yield Backend("sqlite:tokens.db")


@contextmanager
def _redis() -> Iterator[Backend]:
    with tempfile.TemporaryDirectory(prefix="redis-") as folder, Redis(Path(folder)) as server:
        outages = {"kill": (server.kill, server.start), "pause": (server.pause, server.resume)}
        yield Backend(server.url, outages, server.flush)


@contextmanager
def _postgres() -> Iterator[Backend]:
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder, Postgres(Path(folder)) as server:
        ways: Mapping[str, tuple[Step, Step]] = {
            "fast": (partial(server.stop, "fast"), server.start),
            "immediate": (partial(server.stop, "immediate"), server.start),
            "pause": (server.pause, server.resume),
        }
        yield Backend(server.database(), ways)


STORES: Final[Mapping[str, Callable[[], AbstractContextManager[Backend]]]] = {
    "sqlite": _sqlite,
    "redis": _redis,
    "postgres": _postgres,
}
