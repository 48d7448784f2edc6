"""A real Prometheus, with the rules of deploy/, scrapes the real command while causes of alerts come and go.

An hour of the rules is a minute here: all durations in them are divided by SCALE, nothing else is changed.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from proxy.demo import RemoteServer, started
from tests.servers.programs import find

from .browser import Browser
from .processes import free_port, plain_environment, wait_until
from .proxy_process import COMMAND, REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.monitoring]

SCALE = 60
RULES = REPOSITORY / "deploy/prometheus/rules.yml"
DASHBOARD = REPOSITORY / "deploy/grafana/token-proxy.json"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(?<=\[)\d+[smhd](?=\])|(?<=offset )\d+[smhd]|^\d+[smhd]$")
LIFETIME = 12  # seconds, of access tokens: a refresh is due after ten
PATIENCE = 150  # seconds until an alert fires, or is quiet again; most need twenty
SKEW = 3600  # seconds
SECRET = "s3cret"

CONFIG = """
[server]
listen = "127.0.0.1:{data}"
admin = "127.0.0.1:{admin}"
health = "127.0.0.1:{health}"
state_dir = "state"

[log]
audit = "audit/log"

[limits]
authorization_server_connect = 1.0

[credentials.good]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "good"
client_secret = {{ env = "SECRET" }}
client_secret_expires = {secret_ends}

[credentials.person]
issuer = "{issuer}"
client_id = "person"
client_secret = {{ env = "SECRET" }}
refresh_token_lifetime = {login_lasts}

[credentials.revoked]
issuer = "{issuer}"
client_id = "revoked"
client_secret = {{ env = "SECRET" }}

[credentials.down]
issuer = "{issuer}"
client_id = "down"
client_secret = {{ env = "SECRET" }}

[credentials.secret]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "secret"
client_secret = {{ file = "secret" }}

[credentials.clock]
token_endpoint = "{odd}/token"
grant = "client_credentials"
client_id = "clock"
client_secret = {{ env = "SECRET" }}

[callers.app]
networks = ["127.0.0.1/32"]
"""
ROUTE = """
[[routes]]
name = "{name}"
path = "/{name}"
upstream = "{upstream}"
credential = "{credential}"
"""


class Odd(ThreadingHTTPServer):
    """A token endpoint whose clock can be wrong, and an upstream that can refuse its tokens."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _OddHandler)
        self.skew = SKEW
        self.status = 401
        self.url = f"http://127.0.0.1:{self.server_port}"


class _OddHandler(BaseHTTPRequestHandler):
    server: Odd
    protocol_version = "HTTP/1.1"

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() + self.server.skew)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        token = {"access_token": os.urandom(8).hex(), "token_type": "Bearer", "expires_in": 5}
        self._respond(200, json.dumps(token).encode())

    def do_GET(self) -> None:
        self._respond(self.server.status, b"{}")

    def _respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(server: Odd) -> Iterator[Odd]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Product:
    """The real command, with a pipe for its log that can be left unread."""

    def __init__(self, folder: Path, admin: int, server: RemoteServer, odd: Odd) -> None:
        self.folder = folder / "product"
        self._server, self._odd = server, odd
        self.data, self.admin, self.health = free_port(), admin, free_port()
        self.page = f"http://127.0.0.1:{self.admin}"
        self.reads = threading.Event()  # its log
        self.reads.set()
        (self.folder / "audit").mkdir(parents=True)
        (self.folder / "secret").write_text("wrong")
        self.configure()

    def configure(self, *, mended: bool = False) -> None:
        day, nowhere = 86400, f"http://127.0.0.1:{free_port()}"
        text = CONFIG.format(
            data=self.data,
            admin=self.admin,
            health=self.health,
            issuer=self._server.issuer,
            odd=self._odd.url,
            secret_ends=date.today() + timedelta(days=100 if mended else 1),  # noqa: DTZ011 (a day either way)
            login_lasts=100 * day if mended else day,
        )
        upstreams = dict.fromkeys(("good", "person", "revoked", "down", "secret"), self._server.api)
        for name, upstream in {**upstreams, "clock": self._odd.url}.items():
            text += ROUTE.format(name=name, upstream=upstream, credential=name)
        broken = self._server.api if mended else nowhere
        self._config.write_text(text + ROUTE.format(name="broken", upstream=broken, credential="good"))

    def spoil_config(self) -> None:
        self._config.write_text(self._config.read_text() + "colour = 1")

    @property
    def _config(self) -> Path:
        return self.folder / "config.toml"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, "run", "-c", "config.toml"],
            cwd=self.folder,
            env=plain_environment(self.folder, {"SECRET": SECRET, "PYTHONPATH": str(REPOSITORY)}),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, args=[self._process], daemon=True)
        self._reader.start()
        wait_until(self._is_up, "the proxy to start")

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr, (self.folder / "log").open("ab") as log:
            while True:
                self.reads.wait()
                chunk = os.read(process.stderr.fileno(), 65536)
                if not chunk:
                    return
                log.write(chunk)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            return requests.get(f"http://127.0.0.1:{self.health}/startupz", timeout=5).ok
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(60) == 0
        self._reader.join()

    def end(self) -> None:
        self.reads.set()
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def fill_disk(self) -> Callable[[], object]:
        """Writes to files fail, as on a full disk, until the result is called."""
        pid, (_, hard) = self._process.pid, resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        return lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    def fill_log(self) -> None:
        """More lines than the pipe and the queue hold: one is some 300 bytes, and they hold a megabyte."""
        request = b"GET /good/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.data), 30) as caller:
            for _ in range(160):
                caller.sendall(request * 50)
                received = b""
                while received.count(b"HTTP/1.1 200 ") < 50 or not received.endswith(b"}"):
                    received += caller.recv(65536)

    def log_in(self, credential: str) -> None:
        browser, callback = Browser(), f"{self.page}/callback"
        form = browser.open(f"{self.page}/login/{credential}")
        page = browser.submit(form, form.forms[0], stop_at=callback)
        headers = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
        agreed = browser.session.post(
            page.url, data={"user": "alice"}, headers=headers, allow_redirects=False, timeout=20
        )
        done = browser.open(agreed.headers["Location"])
        assert done.status == 200, done.text

    def call(self, route: str) -> int:
        return requests.get(f"http://127.0.0.1:{self.data}/{route}/x", timeout=30).status_code


class Prometheus:
    """The real one, with our rules in short time."""

    def __init__(self, folder: Path, target: int) -> None:
        folder.mkdir()
        rules = yaml.safe_load(RULES.read_text())
        (folder / "rules.yml").write_text(yaml.safe_dump(_in_short(rules)))
        settings = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {"job_name": "token-proxy", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder = folder

    @contextmanager
    def running(self) -> Iterator[Prometheus]:
        address = self.url.removeprefix("http://")
        arguments = (
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address={address}",
        )
        with (self._folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [find("prometheus"), *arguments], cwd=self._folder, stdout=log, stderr=log
            )
        try:
            wait_until(self._is_ready, "Prometheus to start")
            yield self
        finally:
            process.terminate()
            process.wait(60)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=5).ok
        except requests.ConnectionError:
            return False

    def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire: their names, and the credential, route or instance that they are about."""
        alerts = requests.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        found = set()
        for alert in alerts:
            labels = alert["labels"]
            if alert["state"] == "firing":
                about = labels.get("credential") or labels.get("route") or ""
                found.add((labels["alertname"].removeprefix("TokenProxy"), about))
        return found

    def until(self, firing: set[tuple[str, str]], quiet: set[tuple[str, str]]) -> None:
        def is_so() -> bool:
            seen = self.firing()
            return firing <= seen and not quiet & seen

        try:
            wait_until(is_so, "the alerts", PATIENCE)
        except pytest.fail.Exception:
            seen = self.firing()
            pytest.fail(f"should fire: {firing - seen}; should be quiet: {quiet & seen}")

    def query(self, expression: str) -> list[Any]:
        response = requests.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10).json()
        assert response["status"] == "success", response
        result: list[Any] = response["data"]["result"]
        return result


def _in_short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_short(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_in_short(each) for each in value]
    return DURATION.sub(_shorter, value) if isinstance(value, str) else value


def _shorter(found: re.Match[str]) -> str:
    seconds = int(found[0][:-1]) * SECONDS[found[0][-1]]
    return f"{max(1, seconds * 1000 // SCALE)}ms"


@contextmanager
def calls(product: Product) -> Iterator[None]:
    """Requests on all routes, four times a second."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.25):
            for route in ("good", "person", "revoked", "down", "secret", "clock", "broken"):
                try:
                    product.call(route)
                except requests.RequestException:  # while it is stopped
                    continue

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[Product, RemoteServer, Odd]]:
    admin = free_port()
    clients = [f"--client={name}:{SECRET}" for name in ("good", "person", "revoked", "down", "secret")]
    options = [f"--lifetime={LIFETIME}", f"--redirect-uri=http://127.0.0.1:{admin}/callback"]
    with serving(Odd()) as odd, started(*clients, *options) as server:
        product = Product(tmp_path, admin, server, odd)
        product.start()
        try:
            yield product, server, odd
        finally:
            product.end()


@pytest.mark.timeout(600)
def test_each_alert_fires_by_its_cause_and_is_quiet_when_that_is_mended(
    parts: tuple[Product, RemoteServer, Odd], tmp_path: Path
) -> None:
    product, server, odd = parts
    for credential in ("person", "revoked", "down"):
        product.log_in(credential)
    server.script("outage", times=None, client_id="down", grant_type="refresh_token")
    server.script("revoke-family", client_id="revoked", grant_type="refresh_token")
    product.spoil_config()
    product.reload()
    causes = {
        ("LoginRequired", "revoked"),
        ("CannotRefresh", "down"),
        ("TokenExpiresSoon", "down"),
        ("Misconfigured", "secret"),
        ("RefreshTokenExpiresSoon", "person"),
        ("ClientSecretExpiresSoon", "good"),
        ("ClockSkew", "clock"),
        ("UpstreamRefusesToken", "clock"),
        ("RouteErrors", "broken"),
        ("ReloadFailed", ""),
    }
    with Prometheus(tmp_path / "prometheus", product.health).running() as prometheus, calls(product):
        prometheus.until(
            firing=causes, quiet={("LoginRequired", "good"), ("ClockSkew", "good"), ("Absent", "")}
        )

        server.clear_faults()
        product.log_in("revoked")
        product.log_in("down")  # its refresh token is good: only to be sooner done
        (product.folder / "secret").write_text(SECRET)
        odd.skew, odd.status = 0, 200
        product.configure(mended=True)
        product.reload()
        prometheus.until(firing=set(), quiet=causes)

        full = {("StoreNotWritable", ""), ("AuditLogFails", ""), ("SaveHeldBack", "")}
        make_room = fill_disk_amid_a_refresh(product, server)
        prometheus.until(firing=full, quiet=set())
        make_room()
        prometheus.until(firing=set(), quiet=full)

        product.reads.clear()
        product.fill_log()
        prometheus.until(firing={("LogLinesDropped", "")}, quiet=set())
        product.reads.set()
        prometheus.until(firing=set(), quiet={("LogLinesDropped", "")})

        for title, expression in panels():
            assert prometheus.query(expression), f"{title}: {expression}"

        product.stop()
        prometheus.until(firing={("Absent", "")}, quiet=set())
        product.start()
        prometheus.until(firing=set(), quiet={("Absent", "")})


def fill_disk_amid_a_refresh(product: Product, server: RemoteServer) -> Callable[[], object]:
    """The server has issued a new token and takes its time to respond; meanwhile the disk is full."""
    server.script("slow-after-commit", client_id="person", grant_type="refresh_token")
    before = issued(server, "person")
    wait_until(lambda: issued(server, "person") > before, "a refresh")
    return product.fill_disk()


def issued(server: RemoteServer, client: str) -> int:
    return sum(record.client_id == client for record in server.token_records())


def panels() -> Iterator[tuple[str, str]]:
    """The titles and queries of the dashboard, as Grafana sends them for all jobs, instances and names."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "30s")
            yield panel["title"], re.sub(r"\$(job|instance|credential|route)\b", ".*", expression)
