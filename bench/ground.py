"""The environment of every proxy in the benchmark: a CA, the API behind it, and an authorization server."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import proc
import trustme

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
SIZES = {"1k": 531, "real": 531, "1m": 1_000_000, "100m": 100_000_000}  # bytes of each response, by path
STRANGERS = {"unknown_ca": "of an unknown CA", "wrong_name": "for another name"}  # and their bad certificates
PLAIN = {"https": "http", "push": "push_http"}  # by name of a TLS upstream: the same one over plain HTTP
UPSTREAMS = (*PLAIN, *PLAIN.values(), *STRANGERS)
TOKEN_LIFE = 30 * 24 * 3600  # seconds; long, so that no refresh happens during a measurement


class AtTemplate(Template):
    """Templates with `@name`, and `@@` for an at sign; `$name` is left for configuration files."""

    delimiter = "@"


@dataclass(frozen=True)
class Ground:
    folder: Path
    ca: Path
    token: str
    token_endpoint: str
    ports: Mapping[str, int]  # by name of UPSTREAMS
    load_cpu: int | None
    proxy_cpu: int | None


def fill(template: str, values: Mapping[str, object]) -> str:
    return AtTemplate(template).substitute(values)


def free_ports(count: int) -> list[int]:
    """Distinct ports that are free now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def answer() -> str:
    """The API's small JSON response."""
    items = [{"id": n, "name": f"item {n}", "active": True} for n in range(1, 12)]
    text = json.dumps({"items": items, "note": ""})
    return json.dumps({"items": items, "note": "x" * (SIZES["1k"] - len(text))})


@contextlib.contextmanager
def prepared(folder: Path, load_cpu: int | None, proxy_cpu: int | None) -> Iterator[Ground]:
    """Run upstream and authorization server for the length of the block."""
    token = secrets.token_urlsafe(32)
    ports = dict(zip(UPSTREAMS, free_ports(len(UPSTREAMS)), strict=True))
    ca = folder / "ca.pem"
    home = folder / "upstream"
    home.mkdir()
    _write_certificates(ca, home)
    _write_files(home / "files")
    values = {"folder": home, "token": token, "answer": answer()}
    values |= {f"{name}_port": port for name, port in ports.items()}
    config = home / "nginx.conf"
    config.write_text(fill((HERE / "upstream.conf").read_text(), values))
    command = ["nginx", "-e", "stderr", "-c", str(config)]
    with (
        proc.running(command, home, load_cpu) as upstream,
        _pushing(home, token, ports, load_cpu),
        _authorization_server(token) as token_endpoint,
    ):
        # 401: it runs, and refuses requests without the token.
        proc.wait_ready(upstream, f"http://127.0.0.1:{ports['http']}/1k", home, status=401)
        yield Ground(folder, ca, token, token_endpoint, ports, load_cpu, proxy_cpu)


@contextlib.contextmanager
def _pushing(home: Path, token: str, ports: Mapping[str, int], cpu: int | None) -> Iterator[None]:
    """Run the API that pushes (push.py)."""
    folder = home / "push"
    folder.mkdir()
    small = home / "small"
    small.write_text(answer())
    files = (str(HERE / "push.py"), str(home / "https.pem"), token, str(small))
    command = (sys.executable, *files, str(ports["push_http"]), str(ports["push"]))
    with proc.running(command, folder, cpu) as process:
        proc.wait_ready(process, f"http://127.0.0.1:{ports['push_http']}/1k", folder, status=401)
        yield


def _write_files(folder: Path) -> None:
    """Sparse files of zeros: they use no disk space, and are cached after the first read."""
    folder.mkdir()
    for name in ("1m", "100m"):
        with (folder / name).open("wb") as file:
            file.truncate(SIZES[name])


def _write_certificates(ca_file: Path, home: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(ca_file))
    issued = {
        "https": ca.issue_cert("localhost", "127.0.0.1"),
        "unknown_ca": trustme.CA().issue_cert("localhost", "127.0.0.1"),
        "wrong_name": ca.issue_cert("elsewhere.example"),
    }
    for name, certificate in issued.items():
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(home / f"{name}.pem"), append=True)
        certificate.private_key_pem.write_to_path(str(home / f"{name}.key"))


@contextlib.contextmanager
def _authorization_server(token: str) -> Iterator[str]:
    """A token endpoint that always returns the same token."""
    grant = json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE}).encode()

    class TokenEndpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(grant)))
            self.end_headers()
            self.wfile.write(grant)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), TokenEndpoint)
    threading.Thread(target=server.serve_forever, name="authorization server", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/token"
    finally:
        server.shutdown()
        server.server_close()
