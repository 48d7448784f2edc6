"""token-proxy as users run it, on plain and TLS listeners, with a browser and the sites around it."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import aiohttp
import trustme

from proxy.demo.authorization_server import AuthorizationServer
from proxy.demo.clients import Client
from proxy.demo.serve import running
from proxy.demo.wiring import free_ports
from tests.browsers import browsers
from tests.browsers.sites import Attacker, Recorder, serving

REPOSITORY: Final = Path(__file__).parents[2]
LIMIT: Final = 150  # seconds for whatever comes in the end
PLAIN, HOST, NAMED, APP = "proxy.internal", "crm.internal", "crm.localhost", "app.localhost"
CONFIG: Final = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
allowed_hosts = ["proxy.internal", "crm.localhost"]
state_dir = "{state}"
{tls}
[store]
url = "memory:"
[credentials.crm]
token_endpoint = "{issuer}/token"
authorization_endpoint = "{issuer}/authorize"
revocation_endpoint = "{issuer}/revoke"
grant = "refresh_token"
client_id = "app"
client_secret = "secret"
refresh_token = "{refresh_token}"
[[routes]]
path = "/crm"
upstream = "{upstream}"
credential = "crm"
websocket = true
[[routes]]
host = "crm.internal"
upstream = "{upstream}"
credential = "crm"
websocket = true
[[routes]]
path = "/app"
upstream = "{upstream}"
credential = "crm"
websocket = true
origins = ["http://app.localhost:{attacker}"]
[[routes]]
path = "/dead"
upstream = "http://127.0.0.1:1"
credential = "crm"
origins = ["http://app.localhost:{attacker}"]
"""


@dataclass
class Arena:
    folder: Path
    stack: AsyncExitStack
    attacker: Attacker
    site: int  # the attacker's port
    upstream: Recorder
    control: Recorder
    control_port: int
    control_tls: int
    server: AuthorizationServer
    config: dict[str, Any]
    tls: str
    trusted: dict[str, str]
    data: int = 0
    admin: int = 0
    data_tls: int = 0
    _logs: list[Path] = field(default_factory=list)

    def target(self, kind: str, attacker: str, *, route: str = "crm") -> str:
        """The URL to attack, with WAY in the place of the way. The control's kinds begin with "control-"."""
        place = f"{attacker}/{kind}/WAY"
        name, is_control = kind.removeprefix("control-"), kind.startswith("control-")
        if name == "admin":
            return f"http://127.0.0.1:{self.admin}/metrics?place={place}"
        plain, tls = (self.control_port, self.control_tls) if is_control else (self.data, self.data_tls)
        base = {
            "loopback": f"http://127.0.0.1:{plain}/{route}/",
            "named": f"http://{NAMED}:{plain}/{route}/",
            "plain": f"http://{PLAIN}:{plain}/{route}/",
            "host": f"http://{HOST}:{plain}/",
            "tls": f"https://{PLAIN}:{tls}/{route}/",
        }
        return base[name] + place

    def origin(self, host: str) -> str:
        return f"http://{host}:{self.site}"

    async def start_proxies(self, data: int, admin: int) -> None:
        """One on a plain listener, another with TLS."""
        other_data, other_admin = free_ports(0, 0)
        await self._start("plain", data, admin, "")
        await self._start("tls", other_data, other_admin, f"tls = {self.tls}")
        self.data, self.admin, self.data_tls = data, admin, other_data

    async def _start(self, name: str, data: int, admin: int, tls: str) -> None:
        file = self.folder / f"{name}.toml"
        token = self.server.issue("app", "alice")["refresh_token"]
        places = {
            "data": data,
            "admin": admin,
            "tls": tls,
            "state": self.folder / name,
            "refresh_token": token,
        }
        file.write_text(CONFIG.format(**places, **self.config))
        log = self.folder / f"{name}.log"
        self._logs.append(log)
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "proxy", "run", "-c", str(file)),
                cwd=REPOSITORY,
                stdout=out,
                stderr=out,
            )
        self.stack.push_async_callback(_end, process)
        await until(
            lambda: process.returncode is not None or b'"start"' in log.read_bytes(), f"{name} to start"
        )
        assert process.returncode is None, log.read_text()

    def plan(self, attacker: str, kinds: Iterable[str], ways: Iterable[str], *, route: str = "crm") -> None:
        """Add to what the page of `attacker` does."""
        targets = self.attacker.plans.setdefault(attacker, [])
        for kind in kinds:
            targets.append(
                {"kind": kind, "url": self.target(kind, attacker, route=route), "ways": list(ways)}
            )

    def attack(self, attacker: str, host: str) -> None:
        self.attacker.orders.put_nowait(f"{self.origin(host)}/attack?as={attacker}")

    @property
    def driver(self) -> str:
        """A page that opens what is put into `attacker.orders`."""
        return f"{self.origin('driver.localhost')}/driver"

    def browse(self, name: str, url: str = "") -> None:
        """Start the browser at the driver, or at `url`, which must open that."""
        ports = {"control": self.control_tls, "data": self.data_tls}
        trusted = {f"{PLAIN}:{port}": self.trusted[each] for each, port in ports.items()}
        browsers.browse(self.stack, name, url or self.driver, self.folder, trusted)

    async def status(self) -> list[Any]:
        """What an attack might change."""
        async with aiohttp.ClientSession() as session:
            found = []
            for path in ("/api/status", "/metrics"):
                async with session.get(f"http://127.0.0.1:{self.admin}{path}") as response:
                    found.append(await (response.json() if path == "/api/status" else response.text()))
        tokens = [(each["state"], each["generation"]) for each in found[0]["tokens"]]
        lines = [line for line in found[1].splitlines() if line.startswith("token_proxy_refused_total{")]
        refused = sum(float(line.split()[-1]) for line in lines if "browser-refused" in line)
        return [tokens, refused]

    def log(self) -> str:
        return "\n".join(path.read_text() for path in self._logs)


async def until(condition: Callable[[], Any], what: str, seconds: float = LIMIT) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} seconds"
        await asyncio.sleep(0.05)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def arena(folder: Path) -> AsyncIterator[Arena]:
    """The sites and servers; `start_proxies` and `browse` start the rest."""
    authority = trustme.CA()
    leaf = authority.issue_cert(PLAIN)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    leaf.cert_chain_pems[0].write_to_path(str(certificate))
    leaf.private_key_pem.write_to_path(str(key))
    digest = sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest().upper()
    trusted = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
    async with AsyncExitStack() as stack:
        attacker = Attacker()
        site = await stack.enter_async_context(serving(attacker.application()))
        upstream, control = (Recorder(f"http://evil.test:{site}") for _ in range(2))
        upstream_port = await stack.enter_async_context(serving(upstream.application()))
        control_port = await stack.enter_async_context(serving(control.application()))
        control_tls = await stack.enter_async_context(serving(control.application(), 0, context))
        server = AuthorizationServer(clients=[Client("app", "secret")], access_token_lifetime=3600)
        issuer = await stack.enter_async_context(running(server.application()))
        config = {"issuer": issuer, "upstream": f"http://127.0.0.1:{upstream_port}", "attacker": site}
        tls = f'{{ cert = "{certificate}", key = "{key}" }}'
        both = {"control": trusted, "data": trusted}
        yield Arena(
            folder,
            stack,
            attacker,
            site,
            upstream,
            control,
            control_port,
            control_tls,
            server,
            config,
            tls,
            both,
        )
