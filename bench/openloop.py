"""An open-loop load generator: latencies are measured from the scheduled time of each request.

Run: python openloop.py URL RATE SECONDS [TOKEN]; it prints one line of JSON.

wrk sends the next request after a response, so a stalling proxy gets fewer requests and looks better than it
is (coordinated omission). No tool in Debian, PyPI or npm fits: h2load measures from the actual sending,
autocannon and loadtest send a second's requests at once and measure in whole milliseconds, and vegeta and
wrk2 are not packaged.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import selectors
import sys
from collections import deque
from urllib.parse import urlsplit

import httptools

MOST = 256  # connections; further requests wait, and their time counts
FIRST = 16  # connections opened before the first request
WARM = 0.5  # seconds at the start that do not count
GRACE = 1.0  # seconds to wait after the last request; missing responses count as at least this late


class Caller(asyncio.Protocol):
    """A connection with one request at a time."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.due: float | None = None  # scheduled time of the request in flight

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is one
        self.transport = transport
        self.bench.free(self)

    def send(self, due: float) -> None:
        self.due = due
        self.parser = httptools.HttpResponseParser(self)
        self.transport.write(self.bench.next_request())

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        due, self.due = self.due, None
        if due is not None:
            self.bench.answered(due, self.parser.get_status_code())
        self.bench.free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self.bench.lost(self)


class Bench:
    def __init__(self, url: str, token: str | None) -> None:
        self.loop = asyncio.get_running_loop()
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.address = (parts.hostname, parts.port)
        # The fields of heads.lua.
        self.request = (
            f"GET {parts.path}/items/%(n)d?page=%(page)d&cursor=%(n)08x HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "User-Agent: python-httpx/0.28.1\r\nAccept: application/json\r\n"
            "Accept-Encoding: gzip, deflate, br\r\nContent-Type: application/json\r\n"
            "traceparent: 00-%(trace)032x-%(n)016x-01\r\nX-Request-Id: %(id)032x\r\n"
            f"X-Client-Version: 4.2.0\r\nAuthorization: Bearer {token or 'a-placeholder'}\r\n\r\n"
        )
        self.idle: list[Caller] = []
        self.all: set[Caller] = set()
        self.waiting: deque[float] = deque()
        self.opening: set[asyncio.Task[object]] = set()
        self.counted_from = 0.0
        self.done = 0
        self.number = random.getrandbits(28)
        self.seconds: list[float] = []
        self.errors: dict[str, int] = {}

    def next_request(self) -> bytes:
        self.number += 1
        ids = {"trace": random.getrandbits(128), "id": random.getrandbits(128)}
        return (self.request % (ids | {"n": self.number, "page": self.number % 1000})).encode()

    def ask(self, due: float) -> None:
        if self.idle:
            self.idle.pop().send(due)
            return
        self.waiting.append(due)
        if len(self.all) + len(self.opening) < MOST:
            self.open()

    def open(self) -> None:
        task = self.loop.create_task(self.loop.create_connection(lambda: Caller(self), *self.address))
        self.opening.add(task)
        task.add_done_callback(self.opened)

    def opened(self, task: asyncio.Task[object]) -> None:
        self.opening.discard(task)
        if not task.cancelled() and task.exception():
            self.error("connect")

    def free(self, caller: Caller) -> None:
        self.all.add(caller)
        if self.waiting:
            caller.send(self.waiting.popleft())
        else:
            self.idle.append(caller)

    def answered(self, due: float, status: int) -> None:
        self.done += 1
        if due >= self.counted_from:
            self.seconds.append(self.loop.time() - due)
        if status != 200:
            self.error("bad_status")

    def lost(self, caller: Caller) -> None:
        self.all.discard(caller)
        if caller.due is not None:
            self.error("read")
        elif caller in self.idle:
            self.idle.remove(caller)

    def error(self, kind: str) -> None:
        self.errors[kind] = self.errors.get(kind, 0) + 1

    async def drive(self, rate: int, seconds: float) -> dict[str, object]:
        for _ in range(FIRST):
            self.open()
        await asyncio.wait(self.opening)
        begin = self.loop.time() + 0.01
        self.counted_from = begin + WARM
        for number in range(int(rate * (WARM + seconds))):
            due = begin + number / rate
            if (early := due - self.loop.time()) > 0:
                await asyncio.sleep(early)
            self.ask(due)
        answered_per_second = self.done / (WARM + seconds)
        end = self.loop.time() + GRACE
        # Polling instead of an event, which would cost time with each response.
        while (late := self.unanswered()) and self.loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        report = self.report([self.loop.time() - due for due in late if due >= self.counted_from])
        return report | {"answered_per_second": answered_per_second, "errors": self.errors}

    def unanswered(self) -> list[float]:
        return [*self.waiting, *(caller.due for caller in self.all if caller.due is not None)]

    def report(self, late: list[float]) -> dict[str, object]:
        ordered = sorted(self.seconds + late)
        return {f"p{part}_ms": ordered[len(ordered) * part // 100] * 1e3 for part in (50, 99)}


async def main() -> None:
    url, rate, seconds, *token = sys.argv[1:]
    gc.disable()  # otherwise our own pauses would count as the proxy's
    print(json.dumps(await Bench(url, token[0] if token else None).drive(int(rate), float(seconds))))


if __name__ == "__main__":
    # select(2) sleeps for microseconds, epoll (and so uvloop) for whole milliseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(main())
