"""Listen to event streams: python events.py PORT PATH STREAMS SECONDS [TOKEN].

It opens all streams, prints MARK, listens for SECONDS, prints MARK again, and then one line of JSON: the
events of that time, and how long they took from their sending. Every event is checked, as in `make soak`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time

import uvloop
from soak.streams import Heard, Listener

OPENED_PER_SECOND = 500  # streams; each needs a TLS handshake of the upstream, on the CPU that also listens
SETTLE = 0.5  # seconds between the opening of the last stream and the first mark
GRACE = 5.0  # seconds after which a stream that has not begun counts as lost
MOST = 1_000_000  # events of a stream: it does not end while we listen


async def listen(port: int, path: str, streams: int, seconds: int, token: str) -> dict[str, object]:
    loop, heard, began = asyncio.get_running_loop(), Heard(), time.monotonic()
    for number in range(streams):
        await asyncio.sleep(began + number / OPENED_PER_SECOND - time.monotonic())
        request = f"GET {path}/{number}/{MOST} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        request += f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
        stream = Listener(number, 0, request.encode(), heard, time.monotonic())
        await loop.create_connection(lambda new=stream: new, "127.0.0.1", port)  # type: ignore[misc]
    end = time.monotonic() + GRACE
    while len(heard.first) < streams and time.monotonic() < end:  # noqa: ASYNC110  # costs nothing per event
        await asyncio.sleep(0.05)
    heard.faults["never began"] += streams - len(heard.first)
    await asyncio.sleep(SETTLE)
    heard.passed.clear()
    print("MARK", flush=True)
    await asyncio.sleep(seconds)
    ordered = sorted(heard.passed) or [0.0]
    print("MARK", flush=True)
    times = {f"p{part}_ms": ordered[len(ordered) * part // 100] * 1e3 for part in (50, 99)}
    return {"events": len(ordered), "errors": +heard.faults, **times}


async def main() -> None:
    port, path, streams, seconds, *token = sys.argv[1:]
    gc.disable()  # otherwise our own pauses would count as the proxy's
    found = await listen(int(port), path, int(streams), int(seconds), token[0] if token else "a-placeholder")
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
