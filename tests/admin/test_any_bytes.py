"""Any bytes on the admin listener: a response of ours or none, no traceback, nothing quoted."""

import asyncio
import contextlib
import logging
import socket
import threading

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy import startup
from proxy.config.load import load
from proxy.demo.wiring import embedded, free_ports

CANARY = b"cAnArY~7f3"  # not a name of an account, which pages show
PATIENCE = 60  # seconds
SOON = 0.1  # seconds, after which the test sends its end: for requests that are incomplete
HOST = b"Host: localhost\r\n"
OWN_FIELDS = {b"content-security-policy", b"x-content-type-options", b"referrer-policy", b"cache-control"}


class Records(logging.Handler):
    def __init__(self):
        super().__init__()
        self.all = []

    def emit(self, record):
        self.all.append(record)


class Served(threading.Thread):
    """A whole proxy in a thread of its own, so that each example may block."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self.port = 0

    def run(self):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as `run` has it
            runner.run(self._serve())

    async def _serve(self):
        self._loop, self._enough = asyncio.get_running_loop(), asyncio.Event()
        async with embedded(*free_ports(0, 0)) as (_, plain):
            config = load(plain.path).config
            self.port = config.server.admin.port
            async with startup.serving(config):
                self.ready.set()
                await self._enough.wait()

    def stop(self):
        self._loop.call_soon_threadsafe(self._enough.set)
        self.join(PATIENCE)

    def say(self, pieces):
        """All that is received until the connection is closed."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as sock:
            try:
                for piece in pieces:
                    sock.sendall(piece)
                sock.settimeout(SOON)
                with contextlib.suppress(TimeoutError):  # it waits for more
                    received += sock.recv(65536)
                sock.settimeout(PATIENCE)
                sock.shutdown(socket.SHUT_WR)
                while data := sock.recv(65536):
                    received += data
            except OSError:  # it is closed
                pass
        return received


@pytest.fixture(scope="module")
def served():
    server = Served()
    server.start()
    assert server.ready.wait(PATIENCE)
    yield server
    server.stop()


odd = st.sampled_from(
    [b"", b" ", b"\x00", b"\r", b"\n", b"\r\n", b"\xff", b":", b"/", b"%", b"?", b"a" * 9000]
)
visible = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12).map(str.encode)
word = st.lists(st.one_of(st.just(CANARY), visible), max_size=3).map(b"".join)
text = st.lists(st.one_of(odd, st.just(CANARY), st.binary(max_size=12)), max_size=6).map(b"".join)
METHODS = [b"GET", b"GET", b"POST", b"POST", b"HEAD", b"DELETE", b"OPTIONS"]
PATHS = [b"/", b"/callback?code=", b"/login/person/", b"/metrics", b"/api/status?after="]
VALUES = {
    b"Cookie": word,
    b"Origin": word,
    b"Accept": st.one_of(word, st.just(b"text/html")),
    b"Range": st.one_of(word, st.just(b"bytes=0-1")),
    b"If-None-Match": word,
    b"Content-Type": st.one_of(word, st.just(b"application/x-www-form-urlencoded")),
    b"Content-Encoding": st.one_of(word, st.just(b"gzip")),
    b"Connection": st.sampled_from([b"close", b"keep-alive", b"upgrade", CANARY]),
    b"Upgrade": st.sampled_from([b"websocket", b"h2c", CANARY]),
    b"Expect": st.one_of(word, st.just(b"100-continue")),
    b"Content-Length": st.sampled_from([b"0", b"5", b"99999999"]),
    b"Transfer-Encoding": st.just(b"chunked"),
    CANARY: word,
}
fields = st.sampled_from(sorted(VALUES)).flatmap(lambda name: VALUES[name].map(lambda value: (name, value)))
wrong_fields = st.tuples(st.sampled_from(sorted(VALUES)), text)


@st.composite
def requests(draw):
    """Valid, but for one part perhaps."""
    wrong = draw(
        st.sampled_from(["nothing", "nothing", "nothing", "method", "path", "line", "field", "host"])
    )
    method = draw(st.one_of(text, st.sampled_from([b"CONNECT", b"PRI"]))) if wrong == "method" else b""
    target = draw(st.one_of(text, st.sampled_from([b"*", b"http://"]))) if wrong == "path" else b""
    lines = draw(st.lists(fields, max_size=3, unique_by=lambda field: field[0]))
    if wrong == "field":
        lines = [*lines, draw(wrong_fields)]
    if wrong != "host":
        lines = [(b"Host", b"localhost"), *lines]
    head = b"%b %b%b %b\r\n" % (
        method or draw(st.sampled_from(METHODS)),
        target or draw(st.sampled_from(PATHS)),
        draw(word),
        draw(text) if wrong == "line" else b"HTTP/1.1",
    )
    return (
        head
        + b"".join(b"%b: %b\r\n" % line for line in lines)
        + b"\r\n"
        + draw(st.sampled_from([b"", b"12345"]))
    )


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(
        requests().map(lambda one: [one]), st.lists(st.one_of(requests(), text), min_size=1, max_size=3)
    )
)
@example(
    [b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", CANARY * 100]
)
@example([b"POST /callback HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz" + CANARY])
@example([b"GET / HTTP/1.1\r\n" + HOST + b"Expect: " + CANARY + b"\r\n\r\n"])
@example([b"GET / HTTP/1.1\r\n" + HOST + b"Expect: \xaa\r\n\r\n"])
def test_any_bytes_have_a_response_of_ours_or_none(served, pieces):
    records, logger = Records(), logging.getLogger()
    logger.addHandler(records)
    try:
        received = served.say(pieces)
    finally:
        logger.removeHandler(records)
    assert CANARY not in received
    if received:
        assert received.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
        head = received.partition(b"\r\n\r\n")[0].lower()
        given_fields = {line.partition(b":")[0] for line in head.split(b"\r\n")[1:]}
        assert given_fields >= OWN_FIELDS or head.startswith(b"http/1.1 100 ")
        assert b"aiohttp" not in received.lower()
    for record in records.all:
        assert record.exc_info is None, record.getMessage()
        assert CANARY.decode() not in record.getMessage()
