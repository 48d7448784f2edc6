"""Reloads of the real command in a storm: files that change, signals and rotations, under a steady load.

    python -m tests.black_box.reload_storm --seconds 40 --rate 1000

prints what it has measured. The tests run it for some seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from proxy.demo import started
from proxy.demo.wiring import free_ports

KEY = "the-key-of-the-callers-of-this-test"
END = b"\r\n\r\n"
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
CONFIG = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
state_dir = "{folder}/state"
admin_tls = {{ cert = "cert.pem", key = "key.pem" }}

[log]
level = "info"
format = "json"

[store]
url = "sqlite:tokens.db"

[credentials.good]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "app"
client_secret = "secret"

[credentials.rotated]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "nobody"
client_secret = {{ file = "secret" }}
required = false

[credentials.down]
token_endpoint = "http://127.0.0.1:{dead}/token"
grant = "client_credentials"
client_id = "app"
client_secret = "secret"
required = false

[[routes]]
path = "/plain"
upstream = "http://127.0.0.1:{upstream}"
credential = "good"

[[routes]]
path = "/secure"
upstream = "https://localhost:{secure}"
credential = "good"
tls = {{ ca = "bundle.pem" }}

[[routes]]
path = "/live"
upstream = "http://127.0.0.1:{upstream}"
credential = "good"
websocket = true

[[routes]]
path = "/down"
upstream = "http://127.0.0.1:{upstream}"
credential = "down"

[callers.load]
key = "{key}"

[callers.rotated]
key = {{ file = "caller.key" }}
"""


ROUTE = """
[[routes]]
name = "{name}"
{place}
upstream = "http://127.0.0.1:9"
credential = "good"
"""


def mutations(place: dict[str, object]) -> Iterator[str]:
    """Texts of configurations, every other one with a fault, for ever."""
    good = CONFIG.format(**place)
    chance = random.Random(7)
    mine = ROUTE.format(name="own", place=f'listen = "127.0.0.1:{place["own"]}"')
    taken = ROUTE.format(name="taken", place=f'listen = "127.0.0.1:{place["upstream"]}"')
    credential = good[good.index("[credentials.good]") : good.index("[credentials.rotated]")]
    bad: list[Callable[[str], str]] = [
        lambda text: text[: chance.randrange(len(text))] + "\n[[[",
        lambda text: text.replace('credential = "good"', 'credential = "no-such"'),
        lambda text: text.replace("[server]", '[server]\nhealth = "127.0.0.1:1"'),
        lambda text: text.replace('ca = "bundle.pem"', 'ca = "missing.pem"'),
        lambda text: text + taken,
        lambda text: text.replace("grant = ", "grnat = "),
        lambda _: "",
    ]
    for number in range(10**9):
        more = [
            ROUTE.format(name=f"r{number}", place=f'path = "/r{number}"'),
            mine,
            f'\n[callers.c{number}]\nkey = "a-key-of-a-caller-number-{number:04}"\n',
            f"\n[limits]\nidle = {60 + number % 10}.0\npool = {64 + number % 3}\n",
            "\n" + credential.replace("credentials.good", f"credentials.x{number}"),
        ]
        text = good + "".join(chance.sample(more, chance.randrange(1, 4)))
        yield chance.choice(bad)(text) if number % 2 else text


def get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nToken-Proxy-Key: {KEY}\r\n{more}\r\n".encode()


class Upstream:
    """Responds at once, streams numbered events, and echoes tunnels."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(END)
                path = head.split(b" ", 2)[1]
                if b"Upgrade: websocket" in head:
                    writer.write(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                    while data := await reader.read(4096):
                        writer.write(data)
                    break
                if path.startswith(b"/events"):
                    await self._stream(writer)
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))
        writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(10**9):
            event = b"event %d\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(0.05)


class Dead:
    """An authorization server that is down."""

    asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(END)
            self.asked += 1
            writer.write(
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            await writer.drain()
        writer.close()


@dataclass
class Outcome:
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    events: int = 0
    echoes: int = 0
    scrapes: int = 0
    signals: int = 0
    files: int = 0
    rotations: int = 0
    reloads: Counter[str] = field(default_factory=Counter)
    asked_of_the_dead: int = 0
    resources: list[dict[str, int]] = field(default_factory=list)  # at the start, and at the end

    def said(self) -> str:
        ordered, count = sorted(self.latencies), sum(self.statuses.values())
        at = {q: 1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.99, 0.999)}
        lines = {
            "requests": f"{count} ({count / self.seconds:.0f}/s) {dict(self.statuses)}",
            "latency, ms": f"{at}, most {1000 * ordered[-1]:.1f}, mean {1000 * statistics.mean(ordered):.2f}",
            "streams": f"{self.events} events, {self.echoes} echoes",
            "storm": f"{self.files} files, {self.signals} SIGHUPs, {self.rotations} rotations",
            "reloads": f"{dict(self.reloads)}",
            "dead server": f"asked {self.asked_of_the_dead} times",
            "resources": f"{self.resources}",
            "faults": f"{self.faults[:10]}",
        }
        return "\n".join(f"{name:<12} {text}" for name, text in lines.items())


class Storm:
    def __init__(
        self, folder: Path, place: dict[str, object], pid: int, trusting: ssl.SSLContext, seconds: float
    ) -> None:
        self.folder, self.place, self.pid, self.trusting = folder, place, pid, trusting
        self.outcome = Outcome()
        self.seconds = seconds
        self.ends_at = time.monotonic() + seconds
        self.seen: dict[str, float] = {}

    @property
    def over(self) -> bool:
        return time.monotonic() > self.ends_at

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", int(str(self.place["data"])))

    async def load(self, rate: float, path: str) -> None:
        """Requests at a steady rate on one connection."""
        outcome, began, number = self.outcome, time.monotonic(), 0
        reader, writer = await self.connect()
        try:
            while not self.over:
                number += 1
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                sent = time.perf_counter()
                status = await self._ask(reader, writer, f"{path}/{number}")
                outcome.latencies.append(time.perf_counter() - sent)
                outcome.statuses[status] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            outcome.faults.append(f"a request of {path} failed: {error!r}")
        writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
        writer.write(get(path))
        head = await asyncio.wait_for(reader.readuntil(END), 60)
        fields = head.lower().split(b"\r\n")
        size = next(int(line[15:]) for line in fields if line.startswith(b"content-length:"))
        await reader.readexactly(size)
        if b"connection: close" in fields:
            raise ConnectionError(f"closed after {head[:15]!r}")
        return int(head.split()[1])

    async def ask_the_dead(self) -> None:
        while not self.over:
            reader, writer = await self.connect()
            writer.write(get("/down/x", "Connection: close\r\n"))
            answer = await reader.read()
            if not answer.startswith(b"HTTP/1.1 503"):
                self.outcome.faults.append(f"the dead server gave a token: {answer[:60]!r}")
            writer.close()
            await asyncio.sleep(0.1)

    async def stream(self) -> None:
        reader, writer = await self.connect()
        writer.write(get("/live/events"))
        try:
            await asyncio.wait_for(reader.readuntil(END), 60)
            expected = 0
            while not self.over:
                size = int(await asyncio.wait_for(reader.readline(), 60), 16)  # of a chunk, with some events
                for event in (await reader.readexactly(size + 2)).split(b"\n")[:-2]:
                    if event != b"event %d" % expected:
                        self.outcome.faults.append(f"expected event {expected}, not {event!r}")
                    expected += 1
                    self.outcome.events += 1
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.outcome.faults.append(f"a stream was cut: {error!r}")
        writer.close()

    async def tunnel(self) -> None:
        reader, writer = await self.connect()
        writer.write(get("/live/ws", UPGRADE))
        try:
            await asyncio.wait_for(reader.readuntil(END), 60)
            for number in range(10**9):
                if self.over:
                    break
                message = b"%08d" % number
                writer.write(message)
                if await asyncio.wait_for(reader.readexactly(8), 60) != message:
                    self.outcome.faults.append("a tunnel has lost something")
                self.outcome.echoes += 1
                await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.outcome.faults.append(f"a tunnel was cut: {error!r}")
        writer.close()

    async def scrape(self) -> None:
        """Counters only rise, and none is lost."""
        while not self.over:
            await self.look_at_metrics()
            await asyncio.sleep(0.3)

    async def look_at_metrics(self) -> dict[str, float]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(str(self.place["admin"])), ssl=self.trusting, server_hostname="localhost"
        )
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        text = (await asyncio.wait_for(reader.read(), 60)).decode()
        writer.close()
        samples = {}
        for line in text.partition("\r\n\r\n")[2].splitlines():
            if (line and not line.startswith("#") and "}" in line) or line.startswith("token_proxy"):
                name, _, value = line.rpartition(" ")
                with suppress(ValueError):
                    samples[name] = float(value)
        counters = {
            name: value
            for name, value in samples.items()
            if name.partition("{")[0].endswith(("_total", "_count", "_bucket"))
        }
        for name, value in self.seen.items():
            if counters.get(name, -1.0) < value:
                self.outcome.faults.append(f"{name} fell from {value} to {counters.get(name)}")
        self.seen = counters
        self.outcome.scrapes += 1
        return samples

    async def change(self, files: int, signals: int) -> None:
        """Write `files` configurations, and send `signals`, spread over the time."""
        config, texts = self.folder / "config.toml", mutations(self.place)
        pause = 0.85 * self.seconds / files
        for number in range(files):
            text = next(texts)
            if number % 3:
                fresh = self.folder / "fresh.toml"
                fresh.write_text(text)
                fresh.replace(config)
            else:
                config.write_text(text)
            self.outcome.files += 1
            for _ in range(signals // files):
                os.kill(self.pid, signal.SIGHUP)
                self.outcome.signals += 1
                await asyncio.sleep(pause * files / signals)

    async def rotate(self, authority: trustme.CA) -> None:
        """New secrets and certificates, by all the ways in which files are replaced; sometimes half ones."""
        number = 0
        certificates = await asyncio.to_thread(
            lambda: [(authority.issue_cert("localhost"), trustme.CA().cert_pem.bytes()) for _ in range(8)]
        )
        while not self.over:
            number += 1
            replace(self.folder / "secret", f"secret-number-{number}".encode())
            replace(self.folder / "caller.key", f"the-rotated-key-number-{number:06}".encode())
            issued, extra = certificates[number % len(certificates)]
            replace(self.folder / "cert.pem", b"".join(blob.bytes() for blob in issued.cert_chain_pems))
            await asyncio.sleep(0.2)  # for now they do not fit
            (self.folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
            (self.folder / "bundle.pem").write_bytes(b"")
            await asyncio.sleep(0.2)
            (self.folder / "bundle.pem").write_bytes(authority.cert_pem.bytes() + extra)
            self.outcome.rotations += 1
            await asyncio.sleep(2.2)

    def resources(self) -> dict[str, int]:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return {
            "rss_kib": int(found["VmRSS"].split()[0]),
            "threads": int(found["Threads"]),
            "files": sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir()),
        }


def replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"fresh.{path.name}")
    fresh.write_bytes(content)
    fresh.replace(path)


@asynccontextmanager
async def prepared(folder: Path) -> AsyncIterator[tuple[dict[str, object], trustme.CA, Dead]]:
    """The servers and files of a storm."""
    authority, dead = trustme.CA(), Dead()
    issued = authority.issue_cert("localhost")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    (folder / "bundle.pem").write_bytes(authority.cert_pem.bytes())
    (folder / "secret").write_text("secret-number-0")
    (folder / "caller.key").write_text("the-rotated-key-number-000000")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(context)
    async with AsyncExitStack() as stack:
        server = stack.enter_context(started("--client", "app:secret", "--lifetime", "3600"))
        ports = {}
        for name, serve, tls in (
            ("upstream", Upstream().serve, None),
            ("secure", Upstream().serve, context),
            ("dead", dead.serve, None),
        ):
            listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
            stack.callback(listening.close)
            ports[name] = listening.sockets[0].getsockname()[1]
        data, admin, own = free_ports(0, 0, 0)
        place = {
            "data": data,
            "admin": admin,
            "own": own,
            "folder": folder,
            "issuer": server.issuer,
            "key": KEY,
            **ports,
        }
        (folder / "config.toml").write_text(CONFIG.format(**place))
        yield place, authority, dead


async def storm(
    folder: Path,
    start: Callable[[], int],
    *,
    seconds: float,
    rate: float,
    files: int = 50,
    signals: int = 200,
    connections: int = 8,
) -> tuple[Outcome, Storm]:
    """`start`: starts the command, and returns its process id once it serves."""
    async with prepared(folder) as (place, authority, dead):
        pid = await asyncio.to_thread(start)
        trusting = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        made = Storm(folder, place, pid, trusting, seconds)
        await made.look_at_metrics()
        made.ends_at = time.monotonic() + seconds
        each = rate / connections
        paths = ["/plain", "/plain", "/plain", "/secure"]
        asked_before = dead.asked
        loads = [made.load(each, paths[number % 4]) for number in range(connections)]
        others = [
            made.stream(),
            made.stream(),
            made.tunnel(),
            made.tunnel(),
            made.scrape(),
            made.ask_the_dead(),
        ]
        made.outcome.resources.append(made.resources())
        await asyncio.gather(*loads, *others, made.change(files, signals), made.rotate(authority))
        made.outcome.seconds = seconds
        made.outcome.asked_of_the_dead = dead.asked - asked_before
        await _settle(made)
        made.outcome.resources.append(made.resources())
        return made.outcome, made


async def _settle(made: Storm) -> None:
    """After the storm a good file is taken up, and what the log says is sound."""
    (made.folder / "config.toml").write_text(CONFIG.format(**made.place))
    os.kill(made.pid, signal.SIGHUP)
    async with asyncio.timeout(60):
        while (await made.look_at_metrics())["token_proxy_config_last_reload_successful"] != 1.0:
            await asyncio.sleep(0.1)
    for line in (made.folder / "log").read_text().splitlines():
        told = json.loads(line)
        if told["event"] == "reload":
            made.outcome.reloads[told["level"]] += 1
        elif told["level"] == "error" and told["event"] == "notice":
            made.outcome.faults.append(line)


@contextmanager
def running(folder: Path) -> Iterator[Callable[[], int]]:
    """For the script: the command as a process of its own."""
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> int:
        with (folder / "log").open("ab") as log:
            argv = [sys.executable, "-m", "proxy", "run", "-c", str(folder / "config.toml")]
            processes.append(subprocess.Popen(argv, stderr=log, stdout=log))
        port = (folder / "config.toml").read_text().split('admin = "127.0.0.1:', 1)[1].split('"', 1)[0]
        for _ in range(600):
            with suppress(OSError):
                context = ssl.create_default_context(cafile=folder / "bundle.pem")
                urllib.request.urlopen(f"https://localhost:{port}/readyz", context=context, timeout=5)
                break
            time.sleep(0.1)
        return processes[0].pid

    try:
        yield start
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
            print("exit code", process.wait(60))


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=40.0)
    options.add_argument("--rate", type=float, default=1000.0)
    options.add_argument("--files", type=int, default=50)
    options.add_argument("--signals", type=int, default=200)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as begin:
        result, _ = asyncio.run(
            storm(
                Path(name),
                begin,
                seconds=given.seconds,
                rate=given.rate,
                files=given.files,
                signals=given.signals,
            )
        )
        print(result.said())
