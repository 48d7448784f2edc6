"""An outage of the authorization server for five minutes (the second half of `make soak`).

500 requests a second go through a real proxy process to an API that checks their tokens. The server goes down
while the token is valid; the token expires; the server comes back. Every response must be the API's own, or a
503 `token-unavailable` with Retry-After once the token has expired. It prints how long the token was served;
the requests to the server during the outage (at most 25, by the proxy's metrics); the time from its return to
the last 503 (at most 30 s); and the memory before, at its maximum, and after. The exit status is 1 if a limit
is exceeded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import place
import proc
from ground import free_ports

from proxy.demo.api import api_application
from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.serve import running

RATE = 500  # requests per second
EVERY = 0.02  # seconds between batches of requests
MOST_CALLS = 25
RECOVERY = 30.0  # seconds
GROWTH = 1.1  # of memory, maximum factor
KEPT = 10_000  # events of the server and the API, which are not read here and arrive 500 times a second
CALLS = re.compile(r'^token_proxy_token_refreshes_total\{.*outcome="transient".*\} (\S+)$', re.MULTILINE)


@dataclass
class Seen:
    """The responses seen by callers, with times in seconds since the start of the outage."""

    began: float
    answers: Counter[str] = field(default_factory=Counter)
    first_unavailable: float = float("inf")
    last_unavailable: float = float("-inf")
    memory: list[float] = field(default_factory=list)  # MiB

    def note(self, answer: str) -> None:
        self.answers[answer] += 1
        if answer == "unavailable":
            now = time.monotonic() - self.began
            self.first_unavailable = min(self.first_unavailable, now)
            self.last_unavailable = now


def main() -> int:
    parser = argparse.ArgumentParser(description="An authorization server that is away for a while.")
    parser.add_argument("--seconds", type=int, default=300, help="length of the outage (default 300)")
    parser.add_argument("--life", type=int, default=120, help="lifetime of a token in seconds (default 120)")
    parser.add_argument("--back", type=int, default=40, help="seconds to observe afterwards (default 40)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="outage-") as folder:
        return asyncio.run(_outage(Path(folder), options))


async def _outage(folder: Path, options: argparse.Namespace) -> int:
    server = AuthorizationServer(clients=[place.MACHINE], access_token_lifetime=options.life, limit=KEPT)
    (server_port,) = free_ports(1)
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(running(api_application(server)))
        there = contextlib.AsyncExitStack()
        issuer = await there.enter_async_context(running(server.application(), port=server_port))
        ours = await stack.enter_async_context(place.proxy(folder, issuer, api, level="error"))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        load = _Load(session, f"http://127.0.0.1:{ours.port}/soak/x", ours.pid)
        await load.go(5)
        await there.aclose()
        away = load.begin()
        await load.go(options.seconds)
        calls = await _calls(session, ours.admin)
        async with running(server.application(), port=server_port):
            back = load.begin()
            await load.go(options.back)
    return _judge(away, back, calls, options.life)


class _Load:
    def __init__(self, session: aiohttp.ClientSession, url: str, pid: int) -> None:
        self._session = session
        self._url = url
        self._pid = pid
        self._seen = self.begin()

    def begin(self) -> Seen:
        self._seen = Seen(time.monotonic(), memory=[proc.resident_mib(self._pid)])
        return self._seen

    async def go(self, seconds: float) -> None:
        """Send requests at RATE, regardless of earlier responses."""
        loop, under_way = asyncio.get_running_loop(), set()
        began = loop.time()
        for number in range(int(seconds / EVERY)):
            await asyncio.sleep(began + number * EVERY - loop.time())
            for _ in range(int(RATE * EVERY)):
                task = loop.create_task(self._ask())
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            if number % 50 == 0:
                self._seen.memory.append(proc.resident_mib(self._pid))
        if under_way:
            await asyncio.wait(under_way)

    async def _ask(self) -> None:
        seen = self._seen
        try:
            async with self._session.get(self._url) as answer:
                seen.note(_kind(answer.status, answer.headers, await answer.text()))
        except aiohttp.ClientError as error:
            seen.note(type(error).__name__)


def _kind(status: int, headers: Mapping[str, str], text: str) -> str:
    if status == 200:
        return "served"
    if status == 503 and "token-unavailable" in text and "Retry-After" in headers:
        return "unavailable"
    return f"status {status}"


async def _calls(session: aiohttp.ClientSession, admin: int) -> int:
    async with session.get(f"http://127.0.0.1:{admin}/metrics") as answer:
        return int(sum(float(value) for value in CALLS.findall(await answer.text())))


def _judge(away: Seen, back: Seen, calls: int, life: int) -> int:
    memory = [*away.memory, *back.memory]
    recovered = max(0.0, back.last_unavailable)
    print(f"while it was away: {dict(away.answers)}, the first 503 after {away.first_unavailable:.1f} s")
    print(f"calls to it meanwhile: {calls}")
    print(f"when it was back: {dict(back.answers)}, the last 503 after {recovered:.1f} s")
    print(f"memory: {memory[0]:.1f} MiB before, {max(memory):.1f} at most, {memory[-1]:.1f} after")
    wrong = set(away.answers + back.answers) - {"served", "unavailable"}
    faults = {
        f"answers that are not of the contract: {wrong}": wrong,
        f"more than {MOST_CALLS} calls": calls > MOST_CALLS,
        "no call at all": calls == 0,
        "a token that was good did not serve": away.first_unavailable < life * 0.1,
        f"no recovery within {RECOVERY:.0f} s": recovered > RECOVERY,
        f"memory grew by more than {GROWTH - 1:.0%}": memory[-1] > memory[0] * GROWTH,
    }
    for fault in (text for text, found in faults.items() if found):
        print(f"FAULT: {fault}")
    return 1 if any(faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
