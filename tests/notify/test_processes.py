"""Two servers by the real command, on one SQLite store: one notification, also when one is killed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.authorization_server import AuthorizationServer, Client
from proxy.demo.serve import running
from proxy.demo.wiring import free_ports
from tests.patience import FOR_CERTAIN, until

ENOUGH = 3.0  # seconds in which a report that is not due would have come
CONFIG = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
state_dir = "{name}"
[store]
url = "sqlite:{folder}/tokens.db"
key = {{ file = "store.key" }}
[log]
format = "json"
[credentials.mail]
grant = "refresh_token"
client_id = "web"
client_secret = "s3cret"
issuer = "{issuer}"
refresh_token = {{ file = "seed" }}
[[routes]]
path = "/mail"
upstream = "http://127.0.0.1:1"
credential = "mail"
[notify]
command = ["sh", "-c", "echo $$ >> begun; test -e hang && sleep 100000; cat >> notified"]
"""


class Servers:
    def __init__(self, folder: Path, issuer: str) -> None:
        self.folder = folder
        self.issuer = issuer

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def notified(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines("notified")]

    def logged(self, name: str, event: str) -> list[dict[str, Any]]:
        found = (json.loads(line) for line in self.lines(f"{name}.log") if line.startswith("{"))
        return [line for line in found if line["event"] == event]

    @asynccontextmanager
    async def serving(self, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
        data, admin = free_ports(0, 0)
        config = self.folder / f"{name}.toml"
        fields = {"data": data, "admin": admin, "name": name, "folder": self.folder, "issuer": self.issuer}
        config.write_text(CONFIG.format(**fields))
        (self.folder / f"{name}.log").unlink(missing_ok=True)
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "proxy", "run", "-c", str(config)), stdout=log, stderr=log
            )
        try:
            await until(lambda: self.logged(name, "start"))
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            async with asyncio.timeout(FOR_CERTAIN):
                await process.wait()


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[tuple[Servers, AuthorizationServer]]:
    (tmp_path / "store.key").write_text(base64.b64encode(bytes(range(32))).decode())
    (tmp_path / "seed").write_text("dead")
    for file in ("store.key", "seed"):
        (tmp_path / file).chmod(0o600)
    server = AuthorizationServer(clients=(Client("web", "s3cret", redirect_uris=("http://127.0.0.1:1/",)),))
    async with running(server.application()) as issuer:
        made = Servers(tmp_path, issuer)
        yield made, server
        for line in made.lines("begun"):
            with_group(int(line))


def with_group(pid: int) -> None:
    """End what a killed server has left behind."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


async def test_two_servers_notify_once_and_one_that_is_killed_in_between_is_made_up_for(
    servers: tuple[Servers, AuthorizationServer],
) -> None:
    made, server = servers
    (made.folder / "hang").touch()
    async with made.serving("a") as killed:
        await until(lambda: made.lines("begun"))
        killed.kill()  # it holds the claim, and the program has not said anything yet
        await killed.wait()
    with_group(int(made.lines("begun")[0]))
    (made.folder / "hang").unlink()
    async with made.serving("a"), made.serving("b") as other:
        await until(made.notified)
        await asyncio.sleep(ENOUGH)
        (message,) = made.notified()
        assert (message["credential"], message["account"]) == ("mail", "default")
        assert message["state"] == "login_required"
        assert "s3cret" not in json.dumps(message)
        (made.folder / "seed").write_text(server.issue("web", "alice")["refresh_token"])
        await until(lambda: len(made.notified()) > 1)
        await asyncio.sleep(ENOUGH)
        (_, mended) = made.notified()
        assert mended["state"] == "valid"
        assert len(made.logged("a", "notified")) + len(made.logged("b", "notified")) == 2
        other.terminate()
        await other.wait()
        async with made.serving("b"):  # a restart repeats nothing
            await asyncio.sleep(ENOUGH)
            assert len(made.notified()) == 2
    assert not made.logged("a", "internal_error")
