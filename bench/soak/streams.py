"""A thousand listeners, each of which checks and times every event of its stream."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field

import httptools

EVERY = 1.0  # seconds between two events of a stream
OPENED_PER_SECOND = 100  # streams; each needs a TLS handshake on this machine
GRACE = 10.0  # seconds after which a late last event counts as lost


@dataclass
class Heard:
    """The results of all streams of a run. Times in seconds."""

    first: list[float] = field(default_factory=list)  # from the start of connecting to the first event
    passed: list[float] = field(default_factory=list)  # from the sending of an event to its arrival
    longest_gaps: list[float] = field(default_factory=list)  # between two arrivals, of each stream
    faults: Counter[str] = field(default_factory=Counter)
    events: int = 0


class Listener(asyncio.Protocol):
    """One stream, from its request to the end of the response."""

    def __init__(self, stream: int, count: int, request: bytes, heard: Heard, began: float) -> None:
        self.stream, self.count, self.request, self.heard, self.began = stream, count, request, heard, began
        self.done = asyncio.get_running_loop().create_future()
        self.expected = 0
        self.text = b""
        self.arrived = 0.0
        self.longest_gap = 0.0
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is one
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.end("broken answer")

    def on_body(self, data: bytes) -> None:
        *events, self.text = (self.text + data).split(b"\n\n")
        for event in events:
            self.on_event(event)

    def on_event(self, event: bytes) -> None:
        now = time.monotonic()
        stream, number, sent = map(int, event.removeprefix(b"data: ").split())
        if stream != self.stream:
            self.heard.faults["another stream's event"] += 1
            return
        if number < self.expected:
            self.heard.faults["repeated or reordered"] += 1
            return
        self.heard.faults["lost"] += number - self.expected
        self.heard.events += 1
        self.heard.passed.append(now - sent / 1e9)
        if number == 0:
            self.heard.first.append(now - self.began)
        elif self.arrived:
            self.longest_gap = max(self.longest_gap, now - self.arrived)
        self.arrived, self.expected = now, number + 1

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        self.end("" if status == 200 else f"status {status}")

    def connection_lost(self, _error: Exception | None) -> None:
        self.end("cut")

    def end(self, fault: str) -> None:
        if self.done.done():
            return
        self.done.set_result(None)
        self.heard.longest_gaps.append(self.longest_gap)
        self.heard.faults["lost"] += self.count - self.expected
        if fault:
            self.heard.faults[fault] += 1
        self.transport.close()


async def listen(
    base: str, port: int, streams: int, seconds: int, *, tls: ssl.SSLContext | None = None, token: str = ""
) -> Heard:
    """Open the streams one by one, and listen to each for `seconds`."""
    heard = Heard()
    opened_at = time.monotonic()

    async def one(stream: int) -> None:
        await asyncio.sleep(opened_at + stream / OPENED_PER_SECOND - time.monotonic())
        fields = f"Host: localhost:{port}\r\n" + (f"Authorization: Bearer {token}\r\n" if token else "")
        request = f"GET {base}/{stream}/{seconds} HTTP/1.1\r\n{fields}\r\n".encode()
        listener = Listener(stream, seconds, request, heard, time.monotonic())
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: listener, "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
            )
        except OSError:
            heard.faults["no connection"] += 1
            heard.faults["lost"] += seconds
            return
        try:
            await asyncio.wait_for(listener.done, seconds * EVERY + GRACE)
        except TimeoutError:
            listener.done = asyncio.get_running_loop().create_future()  # the old one was cancelled
            listener.end("never ended")

    async with asyncio.TaskGroup() as group:
        for stream in range(streams):
            group.create_task(one(stream))
    return heard
