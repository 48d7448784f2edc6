"""Start a peer of the catalog and wait until it responds."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import proc
from catalog import FIXED, PEERS_FOLDER, Peer
from ground import PLAIN, STRANGERS, Ground, fill, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Marks at the end of lines of a configuration that apply only to a TLS upstream, with a log line for each
# request, or without one.
TLS_ONLY, LOGGED, QUIET = "#TLS", "#LOGGED", "#QUIET"


@dataclass(frozen=True)
class Started:
    pid: int  # 0: no process
    base: str  # base of the URLs that go through it
    upstream_port: int
    folder: Path  # for what all runs share, such as a compiled generator
    ready_seconds: float = 0.0
    token: str | None = None  # the token that a caller must send: only to the upstream itself

    @property
    def port(self) -> int:
        return urlsplit(self.base).port or 0


def direct(upstream: str, ground: Ground) -> Started:
    """The upstream itself over plain HTTP, without a proxy."""
    port = ground.ports[PLAIN.get(upstream, upstream)]
    return Started(0, f"http://127.0.0.1:{port}/", port, ground.folder, token=ground.token)


@contextlib.contextmanager
def started(peer: Peer, upstream: str, ground: Ground, *, logged: bool = False) -> Iterator[Started]:
    """Run the peer with one of the ground's upstreams for the length of the block; ready when it yields."""
    folder = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=ground.folder))
    values = _values(peer, upstream, ground, folder)
    if peer.config:
        Path(str(values["config"])).write_text(_configuration(peer.config, values, logged=logged))
    if peer.build and not Path(str(values["built"])).exists():
        _build(peer, values)
    command = [fill(part, values) for part in peer.command]
    began = time.monotonic()
    with proc.running(command, folder, ground.proxy_cpu) as process:
        # With a bad certificate any response shows that the peer runs.
        status = None if upstream in STRANGERS else 200
        proc.wait_ready(process, fill(peer.ready, values), folder, status=status)
        base, ready_seconds = f"http://127.0.0.1:{values['port']}/api/", time.monotonic() - began
        yield Started(process.pid, base, ground.ports[upstream], ground.folder, ready_seconds)


def _configuration(name: str, values: Mapping[str, object], *, logged: bool) -> str:
    unfit = QUIET if logged else LOGGED, *((TLS_ONLY,) if values["scheme"] == "http" else ())
    text = ""
    for line in (PEERS_FOLDER / name).read_text().splitlines():
        if not line.endswith(unfit):
            text += re.sub(f"({TLS_ONLY}|{LOGGED}|{QUIET})$", "", line).rstrip() + "\n"
    return fill(text, values)


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
        "scheme": "http" if upstream in PLAIN.values() else "https",
        "upstream_port": ground.ports[upstream],
    }
