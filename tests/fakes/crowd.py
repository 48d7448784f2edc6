"""Thousands of callers at once, in a process of their own: PLAN | python -m tests.fakes.crowd.

The first line of stdin is the plan as JSON (see Plan). When every caller has sent its first request, a line
`{"event": "sent"}` is printed. A line `vanish` on stdin lets a share of the waiting callers go, each in one
of three ways and at its own moment; `{"event": "vanished"}` follows. A last line has the result (see Crowd).

Each request has an id of its own, which the upstream (counting_upstream.py) must give back: so a caller
notices the response of another one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import re
import resource
import socket
import ssl
import struct
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, cast

import uvloop

AT_ONCE: Final = 500  # connections being opened; the proxy's queue for them is 1024
UNACKED: Final = struct.Struct("@24xI")  # of TCP_INFO: segments that wait for their acknowledgement
SOURCES: Final = 8  # addresses; one has ports for some 28 000 connections, and others use them too
SLOT: Final = 0.1  # seconds; responses are counted by slots since the start
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
PROXY_ERROR: Final = re.compile(rb"\r\nproxy-status:[^\r]*; *error=\"?([a-z_]+)", re.IGNORECASE)
PROBLEM: Final = re.compile(rb'"urn:token-proxy:problem:([a-z-]+)"')
GONE: Final = ("close", "reset", "half-close")
BODY: Final = b"x" * 4096
AS_APPS_SEND: Final = (
    "User-Agent: crowd/1.0 (Linux; x86_64)\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"
    "Accept-Language: en\r\nCache-Control: no-cache\r\nX-Client-Version: 4.11.2\r\n"
)


@dataclass
class Plan:
    port: int
    callers: int
    path: str = "/up"
    host: str = "127.0.0.1"
    ca: str = ""  # a file: TLS to `host`
    requests: int = 1  # of each caller, one after the other
    seconds: float = 0.0  # instead of a number of requests
    vanish: float = 0.0  # share of the callers that go at the command
    within: float = 2.0  # seconds, from the command until the last has gone
    leave: float = 0.0  # share that goes by itself within `within` of its request
    post: float = 0.0  # share of the requests that have a body
    upgrade: float = 0.0  # share of the callers that ask for a WebSocket, and send through it
    account: str = ""  # the field that names an account; with `accounts`, of as many accounts in turn
    accounts: int = 1
    account_from: int = 0  # the number of the first
    account_turns: bool = False  # each request of a caller names the next account
    prefix: str = "c"  # of ids, for several crowds at one upstream
    seed: int = 0
    at_once: int = AT_ONCE


@dataclass
class Crowd:
    """The callers' plan, and what they have seen."""

    plan: Plan
    loop: asyncio.AbstractEventLoop
    statuses: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)  # endings of the proxy's own responses
    errors: Counter[str] = field(default_factory=Counter)  # of Proxy-Status
    faults: Counter[str] = field(default_factory=Counter)  # what must not be, whatever the upstream does
    gone: Counter[str] = field(default_factory=Counter)  # callers that have vanished, by the way they went
    slots: Counter[int] = field(default_factory=Counter)  # good responses by the time of their end
    durations: list[float] = field(default_factory=list)
    longest_refusal: float = 0.0
    waiting: set[Caller] = field(default_factory=set)
    began: float = 0.0
    first_sent: int = 0
    upgraded: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    left: int = 0  # callers that are not done

    def __post_init__(self) -> None:
        self.random = random.Random(self.plan.seed)
        self.left = self.plan.callers

    def sent(self, caller: Caller) -> None:
        self.waiting.add(caller)
        if caller.number_sent == 1:
            self.first_sent += 1
            if self.first_sent == self.plan.callers:
                say({"event": "sent"})

    def done(self) -> None:
        self.left -= 1
        if self.left <= 0:
            self.over.set()

    def answered(self, caller: Caller, status: int, head: bytes, body: bytes) -> None:
        now = self.loop.time()
        self.waiting.discard(caller)
        self.statuses[str(status)] += 1
        if status < 400:
            self.slots[int((now - self.began) / SLOT)] += 1
            self.durations.append(now - caller.asked)
            if status != 101 and body.partition(b"\n")[0] != caller.id:
                self.faults["the response of another request"] += 1
            return
        self.longest_refusal = max(self.longest_refusal, now - caller.asked)
        for pattern, text, counts in ((PROBLEM, body, self.problems), (PROXY_ERROR, head, self.errors)):
            found = pattern.search(text)
            counts[found[1].decode() if found else "none"] += 1

    def vanish(self) -> None:
        """Let a share of the waiting callers go, in any order."""
        chosen = [caller for caller in self.waiting if self.random.random() < self.plan.vanish]
        self.random.shuffle(chosen)
        for caller in chosen:
            self.loop.call_later(self.random.uniform(0, self.plan.within), caller.vanish)
        self.loop.call_later(self.plan.within + 0.1, say, {"event": "vanished", "callers": len(chosen)})

    def result(self) -> dict[str, Any]:
        times = sorted(self.durations) or [0.0]
        return {
            "event": "done",
            "statuses": self.statuses,
            "problems": self.problems,
            "errors": self.errors,
            "faults": self.faults,
            "gone": self.gone,
            "upgraded": self.upgraded,
            "slots": [self.slots[number] for number in range(max(self.slots, default=-1) + 1)],
            "p50": times[len(times) // 2],
            "p99": times[min(len(times) - 1, int(len(times) * 0.99))],
            "longest": times[-1],
            "longest_refusal": self.longest_refusal,
            "seconds": self.loop.time() - self.began,
        }


class Caller(asyncio.Protocol):
    """Sends one request after the other, and reads their responses."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.number = number
        self.number_sent = 0
        self.id = b""
        self.asked = 0.0
        self._crowd = crowd
        self._received = b""
        self._is_done = False
        self._vanished = ""
        self._upgrades = crowd.random.random() < crowd.plan.upgrade
        self._tunnel = b""  # what must come back through it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has classes of its own
        self._ask()

    def _ask(self) -> None:
        crowd, plan = self._crowd, self._crowd.plan
        self.number_sent += 1
        name = f"{plan.prefix}{self.number}-{self.number_sent}"
        self.id = name.encode()
        self.asked = crowd.loop.time()
        self._transport.write(self._request(name))
        crowd.sent(self)
        if plan.leave and crowd.random.random() < plan.leave:
            crowd.loop.call_later(crowd.random.uniform(0, plan.within), self.vanish)

    def _request(self, name: str) -> bytes:
        crowd, plan = self._crowd, self._crowd.plan
        fields = f"Host: localhost\r\nX-Id: {name}\r\n{AS_APPS_SEND}"
        if plan.account:
            turn = self.number + (self.number_sent - 1) * plan.account_turns
            fields += f"{plan.account}: user{plan.account_from + turn % plan.accounts:06}\r\n"
        target = f"{plan.path}/{name}?page={self.number_sent}"
        if self._upgrades:
            key = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            return f"GET {target} HTTP/1.1\r\n{fields}{key}Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
        if plan.post and crowd.random.random() < plan.post:
            return f"POST {target} HTTP/1.1\r\n{fields}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
        return f"GET {target} HTTP/1.1\r\n{fields}\r\n".encode()

    def data_received(self, data: bytes) -> None:
        if self._tunnel:
            self._echoed(data)
            return
        if self not in self._crowd.waiting:
            self._crowd.faults["a response without a request"] += 1
            return
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        status = int(head[9:12])
        length = LENGTH.search(head + b"\r\n")
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return
        if len(rest) > size:
            self._crowd.faults["more than a response"] += 1
        self._received = b""
        self._crowd.answered(self, status, head + b"\r\n", rest[:size])
        self._go_on(status)

    def _go_on(self, status: int) -> None:
        plan, loop = self._crowd.plan, self._crowd.loop
        if status == 101 and not self._vanished:
            self._tunnel = b"through " + self.id
            self._transport.write(self._tunnel)
        elif self._upgrades or self._vanished or self._is_over(plan, loop.time()):
            self._finish()
        else:
            self._ask()

    def _is_over(self, plan: Plan, now: float) -> bool:
        if plan.seconds:
            return now - self._crowd.began >= plan.seconds
        return self.number_sent >= plan.requests

    def _echoed(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= len(self._tunnel):
            if self._received != self._tunnel:
                self._crowd.faults["other bytes in a tunnel"] += 1
            self._crowd.upgraded += 1
            self._finish()

    def vanish(self) -> None:
        """Go without a word, if a response is still awaited."""
        if self not in self._crowd.waiting or self._vanished:
            return
        self._vanished = self._crowd.random.choice(GONE)
        self._crowd.gone[self._vanished] += 1
        if self._vanished == "half-close":
            self._transport.write_eof()  # its response may still come, until the proxy gives it up
            return
        self._crowd.waiting.discard(self)
        if self._vanished == "reset":
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._transport.abort()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._crowd.waiting and not self._vanished:
            self._crowd.faults["cut off"] += 1
        self._crowd.waiting.discard(self)
        self._finish()

    def _finish(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._transport.close()
            self._crowd.done()


async def run(plan: Plan) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_give_up)
    crowd = Crowd(plan, loop)
    threading.Thread(target=_obey, args=(crowd,), daemon=True).start()
    tls = ssl.create_default_context(cafile=plan.ca) if plan.ca else None
    gate = asyncio.Semaphore(plan.at_once)
    crowd.began = loop.time()
    tasks = [loop.create_task(_open(crowd, number, tls, gate)) for number in range(plan.callers)]
    await crowd.over.wait()
    await asyncio.gather(*tasks)
    return crowd.result()


async def _open(crowd: Crowd, number: int, tls: ssl.SSLContext | None, gate: asyncio.Semaphore) -> None:
    plan = crowd.plan
    async with gate:
        try:
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind((f"127.0.0.{2 + number % SOURCES}", 0))
            await crowd.loop.sock_connect(sock, (plan.host, plan.port))
            await crowd.loop.create_connection(
                lambda: Caller(crowd, number),
                sock=sock,
                ssl=tls,
                server_hostname="localhost" if tls else None,
            )
            while plan.at_once < plan.callers and _is_unheard(sock):
                await asyncio.sleep(SLOT)
        except OSError as error:
            crowd.faults[f"no connection: {type(error).__name__}"] += 1
            crowd.done()


def _is_unheard(sock: socket.socket) -> bool:
    """Whether the first request has found no room in the listener's queue, although there is a connection.

    The kernel gives such connections up after a minute: on a busy machine callers would be cut off by it.
    """
    if not sys.platform.startswith("linux") or sock.fileno() < 0:
        return False
    found: int = UNACKED.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, UNACKED.size))[0]
    return found > 0


def _give_up(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of this program, or of the TLS of its connections, must not look like one of the proxy."""
    loop.default_exception_handler(context)
    os._exit(1)


def _obey(crowd: Crowd) -> None:
    for line in sys.stdin:
        if line.strip() == "vanish":
            crowd.loop.call_soon_threadsafe(crowd.vanish)


def say(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def raise_file_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def main() -> None:
    raise_file_limit()
    gc.freeze()
    plan = Plan(**json.loads(sys.stdin.readline()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        say(runner.run(run(plan)))


if __name__ == "__main__":
    main()
