"""Start a peer of the catalog and wait until it responds."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import proc
from catalog import FIXED, PEERS_FOLDER, Peer
from ground import STRANGERS, Ground, fill, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TLS_ONLY = "#TLS"  # marks lines of a configuration that only apply to a TLS upstream


@dataclass(frozen=True)
class Started:
    pid: int
    base: str  # base of the URLs that go through it
    ready_seconds: float = 0.0
    token: str | None = None  # the token that a caller must send: only to the upstream itself


def direct(ground: Ground) -> Started:
    """The upstream itself, without a proxy."""
    return Started(0, f"http://127.0.0.1:{ground.ports['http']}/", token=ground.token)


@contextlib.contextmanager
def started(peer: Peer, upstream: str, ground: Ground) -> Iterator[Started]:
    """Run the peer with one of the ground's upstreams for the length of the block; ready when it yields."""
    folder = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=ground.folder))
    values = _values(peer, upstream, ground, folder)
    if peer.config:
        Path(str(values["config"])).write_text(_configuration(peer.config, values))
    if peer.build and not Path(str(values["built"])).exists():
        _build(peer, values)
    command = [fill(part, values) for part in peer.command]
    began = time.monotonic()
    with proc.running(command, folder, ground.proxy_cpu) as process:
        # With a bad certificate any response shows that the peer runs.
        status = None if upstream in STRANGERS else 200
        proc.wait_ready(process, fill(peer.ready, values), folder, status=status)
        yield Started(process.pid, f"http://127.0.0.1:{values['port']}/api/", time.monotonic() - began)


def _configuration(name: str, values: Mapping[str, object]) -> str:
    lines = (PEERS_FOLDER / name).read_text().splitlines()
    if values["scheme"] == "http":
        lines = [line for line in lines if not line.endswith(TLS_ONLY)]
    return fill("\n".join(line.removesuffix(TLS_ONLY).rstrip() for line in lines) + "\n", values)


def _build(peer: Peer, values: Mapping[str, object]) -> None:
    ran = subprocess.run(
        [fill(part, values) for part in peer.build], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise proc.StartError(f"not built: {ran.stderr.strip().splitlines()[-1:]}")


def _values(peer: Peer, upstream: str, ground: Ground, folder: Path) -> dict[str, object]:
    port, admin_port = free_ports(2)
    secret_file = folder / "secret"
    secret_file.write_text("bench-secret\n")
    secret_file.chmod(0o600)
    return FIXED | {
        "port": port,
        "admin_port": admin_port,
        "folder": folder,
        "config": folder / (peer.config or "none"),
        "built": ground.folder / f"{peer.name}.built",
        "token": ground.token,
        "token_endpoint": ground.token_endpoint,
        "secret_file": secret_file,
        "ca": ground.ca,
        "scheme": "http" if upstream == "http" else "https",
        "upstream_port": ground.ports[upstream],
    }
