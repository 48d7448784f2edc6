"""The proxies to compare. A new one is an entry in PEERS, with a file in `peers/` if it needs one.

Placeholders in commands and configurations: @port @admin_port @folder @config @peers @installed
@compiled @built @python @token @token_endpoint @secret_file @ca @scheme @upstream_port; a line that ends
in `#TLS` is left out when the upstream speaks plain HTTP.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ground import HERE, fill

PEERS_FOLDER = HERE / "peers"
INSTALLED = HERE.parent / ".bench"  # installed by `make bench-peers`
READY = "http://127.0.0.1:@port/api/1k"  # as requested from every peer; the upstream serves it as /1k
COMPILED = HERE.parent / ".compiled"  # built by `make wheel`
FIXED = {"peers": PEERS_FOLDER, "installed": INSTALLED, "compiled": COMPILED, "python": sys.executable}
FETCH = "make bench-peers"
TOKEN_PROXY = ("@python", "-m", "proxy", "run", "-c", "@config")
TOKEN_PROXY_READY = "http://127.0.0.1:@admin_port/healthz"


@dataclass(frozen=True)
class Peer:
    name: str
    command: tuple[str, ...]
    config: str | None = None  # a file in peers/
    ready: str = READY  # a peer is ready at the first 200 from this URL
    needs: tuple[tuple[str, str], ...] = ()  # commands or files, each with its installation
    build: tuple[str, ...] = ()  # a command that builds @built
    version: tuple[str, ...] = ()  # a command that prints it
    # What it can't do here: "websocket"; "crowd" (a thousand callers at once); "log" (a line per request);
    # "pool" (upstream connections that outlive those of the callers).
    lacks: frozenset[str] = frozenset()


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "nginx",
            ("nginx", "-e", "stderr", "-c", "@config"),
            config="nginx.conf",
            needs=(("nginx", "apt-get install nginx"),),
            version=("nginx", "-v"),
        ),
        Peer(
            "haproxy",
            ("haproxy", "-db", "-f", "@config"),
            config="haproxy.cfg",
            needs=(("haproxy", "apt-get install haproxy"),),
            version=("haproxy", "-v"),
        ),
        Peer(
            "envoy",
            (
                *("@installed/envoy/bin/envoy", "-c", "@config", "--concurrency", "1"),
                *("--use-dynamic-base-id", "--log-level", "error"),
            ),
            config="envoy.yaml",
            needs=(("@installed/envoy/bin/envoy", FETCH),),
            version=("@installed/envoy/bin/envoy", "--version"),
        ),
        Peer(
            "caddy",
            (
                *("env", "XDG_DATA_HOME=@folder", "XDG_CONFIG_HOME=@folder"),
                *("@installed/caddy/bin/caddy", "run", "--adapter", "caddyfile", "--config", "@config"),
            ),
            config="Caddyfile",
            needs=(("@installed/caddy/bin/caddy", FETCH),),
            version=("@installed/caddy/bin/caddy", "version"),
        ),
        Peer(
            "go",
            ("@built", "@port", "@scheme://localhost:@upstream_port", "@ca", "@token"),
            needs=(("go", "apt-get install golang-go"),),
            build=("go", "build", "-o", "@built", "@peers/reverse_proxy.go"),
            version=("go", "version"),
            lacks=frozenset({"log"}),
        ),
        Peer(
            "node",
            (
                *("node", "@peers/http_proxy.mjs", "@installed/node"),
                *("@port", "@scheme://localhost:@upstream_port", "@ca", "@token"),
            ),
            needs=(
                ("node", "apt-get install nodejs npm"),
                ("@installed/node/node_modules/http-proxy", FETCH),
            ),
            version=("node", "--version"),
            lacks=frozenset({"log"}),
        ),
        Peer(
            "mitmproxy",
            (
                *("@installed/mitmproxy/bin/mitmdump", "-q", "-s", "@peers/mitmproxy_addon.py"),
                *("--mode", "reverse:@scheme://localhost:@upstream_port"),
                *("--listen-host", "127.0.0.1", "--listen-port", "@port"),
                *("--set", "confdir=@folder", "--set", "token=@token"),
                *("--set", "ssl_verify_upstream_trusted_ca=@ca", "--set", "connection_strategy=lazy"),
                *("--set", "stream_large_bodies=64k"),  # the others do not buffer a whole response either
            ),
            needs=(("@installed/mitmproxy/bin/mitmdump", FETCH),),
            version=("@installed/mitmproxy/bin/mitmdump", "--version"),
            lacks=frozenset({"crowd", "log", "pool", "websocket"}),
        ),
        Peer(
            "aiohttp",
            (
                *("@python", "@peers/plain_aiohttp.py"),
                *("@port", "@scheme://localhost:@upstream_port", "@ca", "@token"),
            ),
            version=("@python", "-c", "import aiohttp; print(aiohttp.__version__)"),
            lacks=frozenset({"log", "websocket"}),
        ),
        Peer(
            "token-proxy",
            ("env", "-C", "@compiled", *TOKEN_PROXY),
            config="token-proxy.toml",
            ready=TOKEN_PROXY_READY,
            needs=(("@compiled", "make wheel"),),
        ),
        Peer("uncompiled", TOKEN_PROXY, config="token-proxy.toml", ready=TOKEN_PROXY_READY),
    )
}


def built(name: str, tree: Path) -> Peer:
    """Another compiled tree of token-proxy (a `.compiled` folder), to compare builds in one run."""
    command = ("env", "-C", str(tree), *TOKEN_PROXY)
    return Peer(name, command, config="token-proxy.toml", ready=TOKEN_PROXY_READY)


def lacking(peer: Peer) -> str | None:
    """How to install the first missing requirement of a peer; None if there is none."""
    for what, remedy in peer.needs:
        place = fill(what, FIXED)
        if not (shutil.which(place) or Path(place).is_dir()):
            return remedy
    return None


def version(peer: Peer) -> str:
    """The version of the peer's program. Informational, so a failure is no error."""
    if not peer.version:
        return "this checkout"
    command = [fill(part, FIXED) for part in peer.version]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)*", ran.stdout + ran.stderr)
    return found.group() if found else "?"
