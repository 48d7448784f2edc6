"""A name whose address changes, and look-ups that hang or fail: the command in a network of its own."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.demo.wiring import free_ports
from tests.black_box.conftest import until
from tests.e2e.namespaces import Namespace, joined
from tests.fakes.names import NameServer
from tests.fakes.raw_servers import read_message, response

pytestmark = pytest.mark.privileged

NAME = "api.test"
FIRST, SECOND, THIRD = "127.0.1.1", "127.0.1.2", "127.0.1.3"
ADDRESSES = (FIRST, SECOND, THIRD)
FOLLOWED = 60.0  # seconds; "within seconds", on a busy machine
OUTAGE = 15.0  # seconds; longer than addresses are used without a look-up, and a multiple of limits.connect
EVERY = 0.2  # seconds between two requests then
CONNECT = 3.0  # seconds; limits.connect
PATIENCE = 60.0
CONFIG = """
[server]
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
state_dir = "{folder}/state"

[limits]
connect = {connect}

[log]
format = "json"

[credentials.m2m]
token_endpoint = "http://127.0.0.1:{tokens}/token"
grant = "client_credentials"
client_id = "app"
client_secret = {{ file = "{folder}/secret" }}

[[routes]]
path = "/up"
upstream = "http://{name}:{upstream}"
plaintext = true
credential = "m2m"
"""
TOKEN = b'{"access_token": "t", "token_type": "Bearer", "expires_in": 3600}'


class Place:
    """A namespace with a name server, an upstream at each of ADDRESSES, and the proxy."""

    def __init__(self, inside: Namespace, folder: Path) -> None:
        self._inside = inside
        self._folder = folder
        self._listeners: list[socket.socket] = []
        self.names = NameServer(inside.call(_udp), FIRST)
        self.port, self._admin, upstream = free_ports(0, 0, 0)
        for address in ADDRESSES:
            self._listen(
                address, upstream, lambda connection, name=address: _serve(connection, name.encode())
            )
        tokens = self._listen("127.0.0.1", 0, _serve_tokens)
        secret = folder / "secret"
        secret.write_text("secret")
        secret.chmod(0o600)
        (folder / "config.toml").write_text(
            CONFIG.format(
                port=self.port,
                admin=self._admin,
                folder=folder,
                connect=CONNECT,
                tokens=tokens,
                name=NAME,
                upstream=upstream,
            )
        )

    def _listen(self, address: str, port: int, handler) -> int:
        listener = self._inside.call(lambda: socket.create_server((address, port), backlog=128))
        self._listeners.append(listener)
        threading.Thread(target=_accept, args=(listener, handler), daemon=True).start()
        return listener.getsockname()[1]

    def start(self) -> None:
        command = [sys.executable, "-m", "proxy", "run", "-c", str(self._folder / "config.toml")]
        self._inside.start(command, self._folder / "log", HOME=str(self._folder))
        until(lambda: self.ask()[0] == 200, f"the proxy serves: {self.log()[-2000:]}")

    def ask(self) -> tuple[int, str]:
        """Status and body of a response by a new connection to the upstream; (0, "") if none came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.sock = self._inside.connect("127.0.0.1", self.port)
            connection.request("GET", "/up/x", headers={"Connection": "close"})
            got = connection.getresponse()
            return got.status, got.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def responses(self, seconds: float) -> Counter[tuple[int, str]]:
        found: Counter[tuple[int, str]] = Counter()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found[self.ask()] += 1
            time.sleep(EVERY)
        return found

    def log(self) -> str:
        log = self._folder / "log"
        return log.read_text() if log.exists() else ""

    def close(self) -> None:
        self.names.close()
        for listener in self._listeners:
            listener.close()


def _udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 53))
    return sock


def _accept(listener: socket.socket, handler) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_handle, args=(handler, connection), daemon=True).start()


def _handle(handler, connection: socket.socket) -> None:
    with connection:
        handler(connection)


def _serve(connection: socket.socket, address: bytes) -> None:
    if read_message(connection):
        connection.sendall(response(address, b"200 OK", b"Connection: close"))


def _serve_tokens(connection: socket.socket) -> None:
    while read_message(connection):
        connection.sendall(response(TOKEN, b"200 OK", b"Content-Type: application/json"))


@contextmanager
def resolver_of(namespace: Namespace) -> Iterator[None]:
    """The resolver's files for processes in it: `ip netns exec` lays them over those of /etc."""
    folder = Path("/etc/netns") / namespace.name
    folder.mkdir(parents=True)
    try:
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:5 attempts:2\n")
        (folder / "hosts").write_text("127.0.0.1 localhost\n")
        (folder / "nsswitch.conf").write_text("hosts: files dns\n")
        yield
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with joined() as (inside, _), resolver_of(inside):
        made = Place(inside, tmp_path)
        made.start()
        yield made
        assert "Traceback" not in made.log()
        made.close()


def test_a_changed_address_is_followed(place: Place):
    for address in (FIRST, SECOND, THIRD, FIRST):
        place.names.address = address
        until(lambda address=address: place.ask() == (200, address), f"{address} is followed", FOLLOWED)
        assert set(place.responses(2.0)) == {(200, address)}, "none goes back to an earlier one"


def hang(names: NameServer) -> None:
    names.hangs = True


def fail(names: NameServer) -> None:
    names.address = ""


@pytest.mark.parametrize("outage", [hang, fail])
def test_in_an_outage_of_the_name_server_the_last_good_addresses_serve(place: Place, outage):
    place.names.address = SECOND
    until(lambda: place.ask() == (200, SECOND), "the second is known", FOLLOWED)
    outage(place.names)
    asked = place.names.asked
    assert set(place.responses(OUTAGE)) == {(200, SECOND)}
    assert place.names.asked > asked, "no look-up was tried meanwhile"
    place.names.hangs, place.names.address = False, THIRD
    until(lambda: place.ask() == (200, THIRD), "after it, the new address is followed", FOLLOWED)
