"""CPU time of the status page, its search and /api/status, with few accounts and with very many in the store.

    .venv/bin/python bench/listing.py [--accounts 20000] [--rounds 9] [--requests 40]

Each number of accounts has a server of its own, in a process of its own, on a SQLite store that was filled
before. The same requests go to both in turn, so that a busy machine slows both; pages have the same size. It
counts the CPU time of all threads of the server (/proc/PID/task/*/schedstat, in nanoseconds): figures are
medians of the rounds, ratios medians of the ratios within each round. The first document, for which the index
of accounts is made, is counted apart. It needs Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from proxy.clock import SystemClock
from proxy.config.load import load
from proxy.demo.wiring import free_ports
from proxy.oauth.binding import bind, server_of
from proxy.oauth.token import Token
from proxy.secret import Secret
from proxy.services import open_services
from proxy.store.base import AccountId
from proxy.tokens.saved import records
from proxy.tokens.stored_token import StoredToken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.config.model import Config

FEW: Final = 20  # also the size of the pages
DEAD: Final = 2  # accounts that need a login, on the first page of both
CONFIG: Final = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
state_dir = "{folder}"
[credentials.crm]
issuer = "https://login.example"
client_id = "web"
client_secret = {{ file = "secret" }}
[[routes]]
path = "/crm"
upstream = "https://api.example"
credential = "crm"
account = {{ header = "X-User" }}
[log]
level = "warning"
"""
REQUESTS: Final = {  # {place}: of the account after which a page begins, another for each request
    "page": "/?limit={few}",
    "page, each another": "/?limit={few}&after=crm/user{place:05}",
    "page, search": "/?q=USER&limit={few}",
    "page, search for one": "/?q={place:05}@&limit={few}",
    "/api/status": "/api/status?limit={few}",
    "/api/status, each another": "/api/status?limit={few}&after=crm/user{place:05}",
    "/api/status, search": "/api/status?q=USER&limit={few}",
    "/api/status, search for one": "/api/status?q={place:05}@&limit={few}",
    "/api/status, state": "/api/status?state=valid&limit={few}",
}


def configured(folder: Path) -> Config:
    data, admin = free_ports(0, 0)
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0o600)
    (folder / "config.toml").write_text(CONFIG.format(data=data, admin=admin, folder=folder))
    return load(folder / "config.toml").config


async def fill(config: Config, accounts: int) -> None:
    clock = SystemClock()
    credential = config.credentials["crm"]
    async with open_services(config, clock) as services:
        for number in range(accounts):
            token = Token(
                access_token=Secret(f"at-{number}" * 40),
                refresh_token=Secret(f"rt-{number}" * 10),
                server=server_of(credential),
                client_id="web",
                issued_at=clock.wall(),
                issued_boot=clock.boot(),
                boot_id=clock.boot_id,
                lifetime=8 * 3600.0,
            )
            state = "valid" if number >= DEAD else "login_required"
            due_at = records.due_at(credential, token) if state == "valid" else None
            held = StoredToken(1, state, bind(token, credential), due_at)
            key = AccountId("crm", f"user{number:05}@example.com")
            await records.put(services.store, key, held, expected=0)


class Server:
    def __init__(self, process: subprocess.Popen[bytes], port: int, accounts: int) -> None:
        self._process = process
        self._port = port
        self._accounts = accounts
        self._places = itertools.count()

    def ask(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {body[:200]!r}")
        return body

    def cpu(self) -> float:
        """Milliseconds of all its threads."""
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in threads) / 1e6

    def memory(self) -> float:
        """MiB, resident."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def cost(self, path: str, requests: int) -> float:
        """Milliseconds of CPU time for one request."""
        before = self.cpu()
        for _ in range(requests):
            self.ask(path.format(few=FEW, place=self._another_place()))
        return (self.cpu() - before) / requests

    def _another_place(self) -> int:
        """So that no page is asked for twice, with many accounts; with few, it is always the whole page."""
        return DEAD + FEW * next(self._places) % (self._accounts - FEW) if self._accounts > FEW else DEAD


@contextmanager
def serving(accounts: int) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="listing-") as name:
        folder = Path(name)
        config = configured(folder)
        asyncio.run(fill(config, accounts))
        command = [sys.executable, "-m", "proxy", "run", "-c", str(folder / "config.toml")]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            server = Server(process, config.server.admin.port or 0, accounts)
            _wait_for(server)
            yield server
        finally:
            process.terminate()
            process.wait()


def _wait_for(server: Server) -> None:
    for _ in range(600):
        try:
            server.ask("/healthz")
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=40)
    asked = parser.parse_args()
    with ExitStack() as stack:
        few, many = (stack.enter_context(serving(number)) for number in (FEW, asked.accounts))
        time.sleep(2)  # what a server does after its start
        _first_pages(few, many, asked.accounts)
        for server in (few, many):
            for path in REQUESTS.values():
                server.cost(path, 5)
        print(f"\nms of CPU time for one request, {FEW} accounts on a page; medians of {asked.rounds} rounds")
        print(f"{'':29}{FEW:>10}{asked.accounts:>10}{'ratio':>10}")
        for name, path in REQUESTS.items():
            pairs = [
                (few.cost(path, asked.requests), many.cost(path, asked.requests)) for _ in range(asked.rounds)
            ]
            ratio = median(more / less for less, more in pairs)
            less, more = (median(figures) for figures in zip(*pairs, strict=True))
            print(f"{name:29}{less:10.2f}{more:10.2f}{ratio:10.2f}")


def _first_pages(few: Server, many: Server, accounts: int) -> None:
    for server, number in ((few, FEW), (many, accounts)):
        before = server.memory()
        cost = server.cost("/api/status?limit={few}", 1)
        shown = json.loads(server.ask("/api/status?limit=1"))
        total = sum(shown["counts"]["crm"].values())
        print(
            f"{total:6} accounts: the first document takes {cost:.1f} ms, {server.memory() - before:+.1f} MiB"
        )
        if total != number:
            raise SystemExit(f"expected {number} accounts")


if __name__ == "__main__":
    main()
