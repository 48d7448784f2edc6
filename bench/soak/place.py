"""The proxy of a soak test in a separate process, with one credential, `soak`, and one route."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import proc
from ground import free_ports

from proxy.demo.clients import Client

MACHINE = Client("soak", "soak-secret", grants=("client_credentials",))
CONFIG = """
[server]
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
state_dir = "{folder}"
[credentials.soak]
token_endpoint = "{issuer}/token"
grant = "client_credentials"
client_id = "soak"
client_secret = {{ file = "secret" }}
[[routes]]
path = "/soak"
upstream = "{upstream}"
credential = "soak"
{route}
[log]
level = "{level}"
"""


@dataclass(frozen=True)
class Running:
    pid: int
    port: int
    admin: int


@contextlib.asynccontextmanager
async def proxy(
    folder: Path, issuer: str, upstream: str, *, route: str = "", level: str = "warning"
) -> AsyncIterator[Running]:
    """Run the proxy; its output goes to `folder`/proxy/output. `route`: additional TOML of the route."""
    home = folder / "proxy"
    home.mkdir()
    port, admin = free_ports(2)
    secret = folder / "secret"
    secret.write_text(MACHINE.client_secret + "\n")
    secret.chmod(0o600)
    config = folder / "config.toml"
    config.write_text(
        CONFIG.format(
            port=port, admin=admin, folder=home, issuer=issuer, upstream=upstream, route=route, level=level
        )
    )
    with proc.running([sys.executable, "-m", "proxy", "run", "-c", str(config)], home, None) as process:
        await asyncio.to_thread(proc.wait_ready, process, f"http://127.0.0.1:{admin}/readyz", home)
        yield Running(process.pid, port, admin)
