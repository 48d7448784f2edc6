"""100 000 accounts: nothing at start or at rest grows with them. The table: `-s` shows it."""

from __future__ import annotations

import asyncio
import base64
import os
import sys

import pytest

from proxy.config.load import load
from tests.servers.postgres import Postgres, postgres

from . import accounts
from .memory import MB, reads_memory
from .processes import free_port, plain_environment

__all__ = ["postgres"]  # a fixture

FEW, MANY = 100, 100_000
MOST_GROWTH = 1.1  # of memory
NOISE = 0.5  # CPU seconds, beyond twice as many; touching each account takes more
MORE_READ = {"sqlite": MB, "postgres": 100}  # bytes, rows: a hundredth of those of the accounts
SECRET = bytes(range(32))
CONFIG = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
state_dir = "{folder}/state"
[store]
url = "{url}"
key = {{ env = "STORE_KEY" }}
[log]
format = "json"
[credentials.crm]
token_endpoint = "https://login.example/token"
authorization_endpoint = "https://login.example/authorize"
client_id = "web"
[[routes]]
path = "/crm"
upstream = "https://api.example"
credential = "crm"
account = {{ header = "Token-Proxy-Account" }}
"""


@pytest.fixture
def make_config(tmp_path, monkeypatch):
    monkeypatch.setenv("STORE_KEY", base64.b64encode(SECRET).decode())

    def make(name: str, url: str):
        folder = tmp_path / name
        folder.mkdir()
        text = CONFIG.format(data=free_port(), admin=free_port(), folder=folder, url=url)
        (folder / "config.toml").write_text(text)
        return load(folder / "config.toml").config

    return make


@pytest.fixture
def sqlite_stores(make_config):
    """Two configurations: over few accounts, and over many."""
    made = []
    for name, count in (("few", FEW), ("many", MANY)):
        config = make_config(name, "sqlite:tokens.db")
        asyncio.run(accounts.empty_store(config))
        rows = accounts.rows(count, SECRET, "https://login.example/token", "web")
        accounts.fill_sqlite(config.server.state_dir / "tokens.db", rows)
        made.append(config)
    return made


@pytest.fixture
def postgres_stores(make_config, postgres: Postgres):
    made = []
    for name, count in (("few", FEW), ("many", MANY)):
        url = postgres.database()
        config = make_config(name, url)
        asyncio.run(accounts.empty_store(config))
        accounts.fill_postgres(url, accounts.rows(count, SECRET, "https://login.example/token", "web"))
        made.append(config)
    return made


@reads_memory
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.timeout(300)
def test_a_hundred_thousand_accounts_cost_no_more_than_a_hundred(request, kind, tmp_path):
    few, many = compare(request.getfixturevalue(f"{kind}_stores"), tmp_path)
    print(table(kind, few, many))
    assert many.at_rest <= few.at_rest * MOST_GROWTH
    assert many.read <= few.read + MORE_READ[kind]
    assert many.look <= few.look * MOST_GROWTH
    assert many.start_cpu <= few.start_cpu * 2 + NOISE
    assert many.rest_cpu <= few.rest_cpu * 2 + NOISE


def compare(configs, folder):
    environment = plain_environment(folder, {"STORE_KEY": os.environ["STORE_KEY"]})
    for config in configs:
        command = [sys.executable, "-m", "proxy", "run", "-c", str(config.path)]
        yield accounts.measure(command, config, folder / "log", environment)


def table(kind, few, many):
    lines = [
        f"\n{kind:10} {'accounts':>8} {'start, CPU s':>13} {'at rest, MiB':>13} {'read':>10} {'look':>6}"
    ]
    for count, each in ((FEW, few), (MANY, many)):
        resident = each.at_rest / MB
        lines.append(
            f"{'':10} {count:8} {each.start_cpu:13.2f} {resident:13.1f} {each.read:10} {each.look:6}"
        )
    return "\n".join(lines)
