"""Round trips of WebSocket frames: python trips.py PORT PATH CONNECTIONS SECONDS [TOKEN].

Each connection sends a small frame, and the next one when it has come back. It prints MARK when all are open,
MARK again after SECONDS, and one line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections import Counter

import uvloop

PAYLOAD = 32  # bytes
GRACE = 5.0  # seconds to open all
REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # of that key: RFC 6455 section 1.3


class Trips:
    """What all connections share."""

    def __init__(self) -> None:
        self.counting = False
        self.open = 0
        self.seconds: list[float] = []
        self.faults: Counter[str] = Counter()


class Caller(asyncio.Protocol):
    def __init__(self, request: bytes, trips: Trips) -> None:
        self.request, self.trips = request, trips
        self.buffer, self.expected, self.number = b"", b"", 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is one
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.expected:
            self.back()
        elif b"\r\n\r\n" in self.buffer:
            self.upgraded()

    def upgraded(self) -> None:
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101") or ACCEPTED not in head or rest:
            self.trips.faults["not upgraded"] += 1
            self.transport.abort()
            return
        self.trips.open += 1
        self.send()

    def send(self) -> None:
        self.number += 1
        payload = b"%0*d" % (PAYLOAD, self.number)
        # A text frame, FIN set. The mask of zeros leaves the payload as it is (RFC 6455 section 5.3).
        self.transport.write(b"\x81" + bytes((0x80 | PAYLOAD, 0, 0, 0, 0)) + payload)
        self.expected, self.buffer = b"\x81" + bytes((PAYLOAD,)) + payload, b""
        self.sent = time.perf_counter()

    def back(self) -> None:
        if len(self.buffer) < len(self.expected):
            return
        if self.trips.counting:
            self.trips.seconds.append(time.perf_counter() - self.sent)
        if self.buffer != self.expected:
            self.trips.faults["other bytes"] += 1
        self.send()

    def connection_lost(self, _error: Exception | None) -> None:
        self.trips.faults["cut"] += self.trips.counting


async def drive(port: int, path: str, connections: int, seconds: int, token: str) -> dict[str, object]:
    loop, trips, end = asyncio.get_running_loop(), Trips(), time.monotonic() + GRACE
    request = REQUEST.format(path=path, port=port, token=token).encode()
    for _ in range(connections):
        await loop.create_connection(lambda: Caller(request, trips), "127.0.0.1", port)
    while trips.open < connections and not trips.faults and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    trips.faults["never opened"] += connections - trips.open
    trips.counting = True
    print("MARK", flush=True)
    await asyncio.sleep(seconds)
    trips.counting = False
    print("MARK", flush=True)
    ordered = sorted(trips.seconds) or [0.0]
    times = {f"p{part}_ms": ordered[len(ordered) * part // 100] * 1e3 for part in (50, 99)}
    return {"trips": len(trips.seconds), "errors": +trips.faults, **times}


async def main() -> None:
    port, path, connections, seconds, *token = sys.argv[1:]
    gc.disable()  # otherwise our own pauses would count as the proxy's
    found = await drive(
        int(port), path, int(connections), int(seconds), token[0] if token else "a-placeholder"
    )
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
