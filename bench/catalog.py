"""The proxies side by side. A new one is one entry in PEERS, and a file in `peers/` if it needs one.

In a command or a configuration these are filled in: @port @admin_port @folder @config @peers @python
@token @token_endpoint @secret_file @ca @scheme @upstream_port @route_tls
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import proc
from ground import HERE, Ground, fill, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS_FOLDER = HERE / "peers"
REQUEST = "http://127.0.0.1:@port/api/1k"  # what every peer is asked; the upstream knows it as /1k


@dataclass(frozen=True)
class Peer:
    name: str
    command: tuple[str, ...]
    config: str | None = None  # a file in peers/
    ready: str = REQUEST  # ready = the first 200 from here
    needs: str | None = None  # a Debian package whose command has the same name


PEERS = {
    peer.name: peer
    for peer in (
        Peer("nginx", ("nginx", "-e", "stderr", "-c", "@config"), "nginx.conf", needs="nginx"),
        Peer(
            "aiohttp",
            (
                "@python",
                "@peers/plain_aiohttp.py",
                "@port",
                "@scheme://localhost:@upstream_port",
                "@ca",
                "@token",
            ),
        ),
        Peer(
            "token-proxy",
            ("@python", "-m", "proxy", "run", "-c", "@config"),
            "token-proxy.toml",
            ready="http://127.0.0.1:@admin_port/healthz",
        ),
    )
}


@dataclass(frozen=True)
class Started:
    pid: int
    url: str
    ready_seconds: float


@contextlib.contextmanager
def started(peer: Peer, scheme: str, ground: Ground) -> Iterator[Started]:
    """The peer runs, and has answered, until the block ends."""
    folder = ground.folder / f"{peer.name}-{scheme}"
    folder.mkdir()
    values = _values(peer, scheme, ground, folder)
    if peer.config:
        text = (PEERS_FOLDER / peer.config).read_text()
        Path(str(values["config"])).write_text(fill(text, values))
    command = [fill(part, values) for part in peer.command]
    began = time.monotonic()
    with proc.running(command, folder, ground.proxy_cpu) as process:
        proc.wait_ready(process, fill(peer.ready, values), folder)
        yield Started(process.pid, fill(REQUEST, values), time.monotonic() - began)


def _values(peer: Peer, scheme: str, ground: Ground, folder: Path) -> dict[str, object]:
    port, admin_port = free_ports(2)
    secret_file = folder / "secret"
    secret_file.write_text("bench-secret\n")
    secret_file.chmod(0o600)
    return {
        "port": port,
        "admin_port": admin_port,
        "folder": folder,
        "config": folder / (peer.config or "none"),
        "peers": PEERS_FOLDER,
        "python": sys.executable,
        "token": ground.token,
        "token_endpoint": ground.token_endpoint,
        "secret_file": secret_file,
        "ca": ground.ca,
        "scheme": scheme,
        "upstream_port": ground.upstream_ports[scheme],
        "route_tls": f'tls = {{ ca = "{ground.ca}" }}' if scheme == "https" else "",
    }
