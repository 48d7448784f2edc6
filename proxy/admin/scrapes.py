"""The metrics as text, for scrapers without authentication.

Writing them takes milliseconds of the event loop and a query of the store. So one text is written
at a time, in at most SHARE of the time. Requests that wait share the next text of their format: it is never
older than they are.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, NamedTuple

from prometheus_client import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest, gzip_accepted
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from proxy import tasks

SHARE: Final = 0.2  # of the time; a text of 10 ms may be written 20 times a second
LEVEL: Final = 1  # of gzip: half the time of the default, and a tenth more bytes
OPENMETRICS: Final = "application/openmetrics-text"
ACCOUNT: Final = "account"


class Format(NamedTuple):
    """What a scraper accepts. Versions and escaping don't matter: all names are plain in each of them."""

    is_openmetrics: bool
    is_compressed: bool

    @property
    def content_type(self) -> str:
        return openmetrics.CONTENT_TYPE_LATEST if self.is_openmetrics else CONTENT_TYPE_PLAIN_0_0_4


def wanted(accept: str, accept_encoding: str) -> Format:
    types = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
    return Format(OPENMETRICS in types, gzip_accepted(accept_encoding))


class Scrapes:
    """Writes the metrics for all scrapers. `read`: what to write, made ready; called once for each text."""

    def __init__(self, read: Callable[[], Awaitable[Collector]]) -> None:
        self._read = read
        self._turn = asyncio.Lock()
        self._next: dict[Format, asyncio.Task[bytes]] = {}  # not begun yet
        self._not_before = 0.0

    async def text(self, form: Format) -> bytes:
        task = self._next.get(form)
        if task is None:
            task = self._next[form] = tasks.spawn(self._write(form), "write the metrics")
        return await asyncio.shield(task)

    async def _write(self, form: Format) -> bytes:
        async with self._turn:
            await asyncio.sleep(self._not_before - time.monotonic())
            del self._next[form]  # a request that comes from now on waits for the next one
            source = await self._read()
            began = time.monotonic()
            try:
                write = openmetrics.generate_latest if form.is_openmetrics else generate_latest
                text = write(source)
                return gzip.compress(text, LEVEL) if form.is_compressed else text
            finally:
                now = time.monotonic()
                self._not_before = now + (now - began) * (1 / SHARE - 1)


class WithoutAccounts(Collector):
    """The metrics of a registry but for the samples that name an account."""

    def __init__(self, registry: Collector) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.labels.get(ACCOUNT)]
            if family.samples:
                yield family
