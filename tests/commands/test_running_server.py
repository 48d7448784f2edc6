"""Any program may have the admin port: what `status` reads of it is bounded, checked and made printable."""

import asyncio
import copy
import json
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.commands import running_server
from proxy.commands.running_server import read_status
from tests.observe import entries

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ENTRY = entries.entry(credential="machine", grant="client_credentials", routes=["machine"])
STATUS = {
    "version": 1,
    "now": 1.0,
    "ready": True,
    "tokens": [ENTRY],
    "counts": {"machine": {"valid": 1}, "person": {}},
    "attention": 0,
    "joinable": [],
    "next": None,
}


class Squatter:
    """A program on the admin port; `respond` is called with each connection, in a thread."""

    def __init__(self, port, respond):
        self.sent = 0
        self._respond = respond
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                connection.recv(65536)
                self._respond(connection.sendall)
            except OSError:
                return

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def squat(bench):
    made = []

    def make(respond):
        made.append(Squatter(bench.config.server.admin.port, respond))
        return made[-1]

    yield make
    for squatter in made:
        squatter.close()


def whole(document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def changed(**more):
    return {**copy.deepcopy(STATUS), **more}


def entry(**more):
    return changed(tokens=[{**ENTRY, **more}])


def without(name):
    return {key: value for key, value in STATUS.items() if key != name}


WRONG = [
    *(without(name) for name in STATUS),
    *(entry(**{name: {"a": 1}}) for name in ENTRY if name != "last_refresh"),
    *(changed(tokens=[{key: value for key, value in ENTRY.items() if key != name}]) for name in ENTRY),
    *(changed(tokens=value) for value in (None, {}, "x", [None], [[]], 1)),
    *(changed(counts=value) for value in (None, [], {"machine": {}}, {"machine": 1, "person": {}})),
    *(changed(now=value) for value in (None, "1", True, float("nan"), float("inf"))),
    changed(counts={"machine": {"valid": "1"}, "person": {}}),
    changed(version=2),
    entry(last_refresh=None),
    entry(expires_at=float("inf")),
    entry(routes=[1]),
    *(b"", b"null", b"[]", b"\xff", b"{" * 100_000, b'{"a":' * 100_000, b"[" * 100_000, b"9" * 100_000),
]


@pytest.mark.parametrize("document", WRONG)
def test_another_document_is_none_of_ours(bench, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    assert read_status(body, bench.config) is None


def test_the_document_of_a_server_is_read(bench):
    assert read_status(json.dumps(STATUS).encode(), bench.config) == STATUS
    assert read_status(json.dumps(changed(more={"newer": [1]})).encode(), bench.config) is not None


async def test_escape_sequences_do_not_reach_the_terminal(bench, squat):
    evil = "\x1b]0;PWNED\x07\x1b[2J\u202e\ud800\x9b\r\n"
    squat(lambda send: send(whole(entry(reason=evil, routes=[evil], account=evil, state=evil))))
    for options in ((), ("--json",)):
        done = await bench.call("status", *options)
        assert done.exit_code == 0
        assert "PWNED" in done.stdout, "it is shown, made harmless"
        assert all(character.isprintable() for line in done.stdout.split("\n") for character in line)


def endless(send):
    send(HEAD + b"\r\n" + json.dumps(STATUS).encode()[:-1])
    while True:
        send(b" " * 65536)


def chunked(send):
    send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        send(b"10000\r\n" + b" " * 65536 + b"\r\n")


def endless_header(send):
    send(HEAD)
    while True:
        send(b"X: " + b"x" * 1000 + b"\r\n")


def endless_interim(send):
    while True:
        send(b"HTTP/1.1 103 Early Hints\r\nX: x\r\n\r\n")


def silent(_send):
    time.sleep(60)


def dripping(send):
    send(HEAD + b"\r\n")
    while True:
        send(b" ")
        time.sleep(0.1)


def compressed(send):
    import gzip

    send(HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b" " * 100_000_000))


def redirecting(send):
    send(b"HTTP/1.1 302 Found\r\nLocation: /api/status\r\nContent-Length: 0\r\n\r\n")


def malformed(send):
    send(b"SSH-2.0-OpenSSH\r\n")


@pytest.mark.parametrize(
    "respond",
    [
        *(endless, chunked, endless_header, endless_interim, silent, dripping, compressed, redirecting),
        malformed,
        lambda send: send(whole({"version": 1, "counts": {"machine": {}, "person": {}}})),
    ],
)
async def test_a_program_that_is_no_server_of_ours_is_ignored(bench, squat, respond):
    squat(respond)
    done = await bench.call("status")
    assert done.exit_code == 3
    assert done.stdout.startswith("no server runs here: this is what the store holds\n")
    assert done.stderr == ""


async def test_no_more_is_read_than_a_status_can_have(bench, squat, monkeypatch):
    monkeypatch.setattr(running_server, "TIMEOUT", 3600.0)  # so that it is the size that ends it
    squat(endless)
    async with asyncio.timeout(60):
        assert await running_server.ask_server(bench.config) is None


@given(st.text())
def test_any_text_is_made_printable(text):
    ((name, [value]),) = running_server._printable({text: [text]}).items()
    assert name == value
    assert value.isprintable()
    assert len(value) == len(text)


async def test_the_control_socket_is_asked_first(bench, squat):
    """Whoever has the admin port can't speak for a server that has another one."""
    squat(lambda send: send(whole(entry(state="squatted"))))
    text = bench.path.read_text()
    bench.edit(str(bench.config.server.admin), "127.0.0.1:0")
    async with bench.serving():
        bench.path.write_text(text)
        document = json.loads((await bench.call("status", "--json")).stdout)
    assert "squatted" not in str(document)
    assert {each["credential"] for each in document["tokens"]} == {"machine", "person"}
