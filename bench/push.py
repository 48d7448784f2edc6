"""An API that pushes: event streams, WebSocket echoes, and what a proxy made of a request.

Run: python push.py CERTIFICATE TOKEN ANSWER_FILE HTTP_PORT TLS_PORT. Requests without the token get a 401.

- GET /events/STREAM/COUNT: COUNT events, ten a second, each with its stream, number and time of sending.
- GET /echo with `Upgrade: websocket`: each frame comes back with its payload; less than 126 bytes of it.
- any method on /seen/…: the head as it arrived and the length of the body, as JSON.
- all other paths: the API's small response.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import sys
import time
from pathlib import Path

import uvloop

EVERY = 0.1  # seconds between two events of a stream
SLOTS = 50  # the events of a period are spread over so many moments: no burst of a thousand at once
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
# X-Accel-Buffering: as APIs send it that know of nginx, which else would collect events.
EVENTS_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"
)
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Api:
    """What all connections share: the token, the small response, the streams by slot."""

    def __init__(self, token: str, answer: bytes) -> None:
        self.wanted = b"\r\nauthorization: bearer " + token.encode().lower() + b"\r\n"
        self.answer = answer
        self.slots: list[set[Push]] = [set() for _ in range(SLOTS)]

    async def tick(self) -> None:
        """Send one event to each stream of a slot, slot by slot."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            for slot in self.slots:
                for stream in list(slot):
                    stream.tell()
                due += EVERY / SLOTS
                await asyncio.sleep(due - loop.time())


class Push(asyncio.Protocol):
    def __init__(self, api: Api) -> None:
        self.api = api
        self.buffer = b""
        self.echoing = False
        self.slot: set[Push] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is one
        self.transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        if self.slot is not None:
            self.slot.discard(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.echoing:
            self.echo()
            return
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if end and len(body) >= length_of(head):
            self.buffer = body[length_of(head) :]
            self.respond(head + b"\r\n", body)

    def respond(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if self.api.wanted not in head.lower():
            self.transport.write(REFUSED)
            self.transport.close()
        elif path.startswith(b"/events/"):
            self.begin(path)
        elif path == b"/echo":
            self.upgrade(head)
        else:
            seen = json.dumps({"head": head.decode("latin-1"), "body": len(body)}).encode()
            self.send(seen if path.startswith(b"/seen/") else self.api.answer)

    def send(self, body: bytes) -> None:
        head = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: "e"\r\nContent-Length: %d\r\n\r\n'
        self.transport.write(head % len(body) + body)

    def begin(self, path: bytes) -> None:
        self.stream, count = path.split(b"/")[-2:]
        self.number, self.count = 0, int(count)
        self.transport.write(EVENTS_HEAD)
        self.slot = self.api.slots[int(self.stream) % SLOTS]
        self.slot.add(self)

    def tell(self) -> None:
        event = b"data: %b %d %d\n\n" % (self.stream, self.number, time.monotonic_ns())
        self.number += 1
        last = b"0\r\n\r\n" if self.number == self.count else b""
        self.transport.write(b"%x\r\n%b\r\n%b" % (len(event), event, last))
        if last and self.slot is not None:
            self.slot.discard(self)

    def upgrade(self, head: bytes) -> None:
        lines = (line.partition(b":") for line in head.split(b"\r\n"))
        key = next((value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-key"), b"")
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self.echoing = True
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )

    def echo(self) -> None:
        """A caller's frame is 2 bytes, a mask of 4, and less than 126 bytes; ours has no mask."""
        while len(self.buffer) > 6 and len(self.buffer) >= (whole := 6 + (self.buffer[1] & 127)):
            frame, self.buffer = self.buffer[:whole], self.buffer[whole:]
            size = whole - 6
            mask = int.from_bytes((frame[2:6] * (size // 4 + 1))[:size], "big")
            payload = (int.from_bytes(frame[6:], "big") ^ mask).to_bytes(size, "big")
            self.transport.write(bytes((frame[0], size)) + payload)


def length_of(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def serve(api: Api, certificate: str, http_port: int, tls_port: int) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, certificate.replace(".pem", ".key"))
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Push(api), "127.0.0.1", http_port, backlog=4096)
    await loop.create_server(lambda: Push(api), "127.0.0.1", tls_port, ssl=tls, backlog=4096)
    await api.tick()


if __name__ == "__main__":
    certificate, token, answer, *ports = sys.argv[1:]
    uvloop.run(serve(Api(token, Path(answer).read_bytes()), certificate, *map(int, ports)))
