"""Upstreams and callers that misbehave, and the real command between them."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from contextlib import closing

import pytest

from tests.black_box.conftest import until
from tests.fakes.raw_servers import listening, read_message, reset, response

ROUTE = """
[[routes]]
path = "{path}"
upstream = "{upstream}"
credential = "{credential}"
"""
QUIET = 30.0  # seconds without which a response counts as hanging; half of first_byte


def route(port, path="/up", base="", credential="m2m"):
    return ROUTE.format(path=path, upstream=f"http://127.0.0.1:{port}{base}", credential=credential)


def test_one_odd_moment_does_not_end_every_deadline(command, credential):
    """The upstream closes a kept connection just as its time is over, and is slow to accept the next one."""
    seen = []

    def upstream(connection):
        seen.append(connection)
        if len(seen) > 1:
            time.sleep(4)
        read_message(connection)
        connection.sendall(response(b"first"))
        read_message(connection)
        time.sleep(1.9)

    with listening(upstream) as port:
        limits = "[limits]\nfirst_byte = 2\nheader_time = 2\n"
        command.configure(limits + credential("m2m") + route(port))
        command.start()
        with closing(http.client.HTTPConnection("127.0.0.1", command.port, timeout=QUIET)) as client:
            for _ in range(2):
                client.request("GET", "/up/x")
                client.getresponse().read()
        with socket.create_connection(("127.0.0.1", command.port), timeout=QUIET) as half:
            half.sendall(b"GET /up/x HTTP/1.1\r\nHost: loc")
            assert half.recv(100) == b"", "half a header is closed in time"
        assert "Traceback" not in command.log()


def test_a_response_that_a_reset_follows_at_once_arrives(command, credential):
    def upstream(connection):
        read_message(connection)
        connection.sendall(response(b"0123456789"))
        reset(connection)

    with listening(upstream) as port:
        command.configure(credential("m2m") + route(port))
        command.start()
        for _ in range(12):
            assert command.get("/up/x", timeout=QUIET) == (200, b"0123456789")


NO_RESPONSE = {
    "half a head, then a reset": (b"HTTP/1.1 200 OK\r\nContent-Le", True),
    "an interim response, then a reset": (b"HTTP/1.1 103 Early Hints\r\n\r\n", True),
    "nothing, then a reset": (b"", True),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", False),
    "lines that end in LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", False),
}


@pytest.mark.parametrize("form", NO_RESPONSE)
def test_an_invalid_response_is_a_502_at_once(command, credential, form):
    said, ends = NO_RESPONSE[form]
    done = threading.Event()

    def upstream(connection):
        read_message(connection)
        connection.sendall(said)
        if ends:
            reset(connection)
        else:
            done.wait(QUIET * 2)

    with listening(upstream) as port:
        command.configure(credential("m2m") + route(port))
        command.start()
        received = b""
        with socket.create_connection(("127.0.0.1", command.port), timeout=QUIET) as caller:
            caller.sendall(b"GET /up/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while data := caller.recv(65536):  # a 1xx response may come first
                received += data
        done.set()
        assert b"HTTP/1.1 502 " in received


def test_a_401_whose_upstream_closes_meanwhile_is_not_lost(command, credential):
    def upstream(connection):
        read_message(connection)
        connection.sendall(response(b"who are you?", b"401 Unauthorized", b"Connection: close"))

    with listening(upstream) as port:
        command.configure(credential("m2m") + route(port))
        command.start()
        for _ in range(3):
            assert command.get("/up/x", timeout=QUIET) == (401, b"who are you?")


def test_a_caller_that_has_gone_is_noticed_and_the_work_upstream_ends(command, credential):
    cancelled = threading.Event()

    def upstream(connection):
        read_message(connection)
        if connection.recv(1) == b"":
            cancelled.set()

    with listening(upstream) as port:
        command.configure(credential("m2m") + route(port))
        command.start()
        with socket.create_connection(("127.0.0.1", command.port)) as caller:
            caller.sendall(b"GET /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.5)
        assert cancelled.wait(QUIET), "well before first_byte"
        until(lambda: '"status":499' in command.log().replace(" ", ""), "499 in the log")


@pytest.mark.parametrize(
    "location",
    [
        b"/b/steal",
        b"/v2/../b/steal",
        b"http://127.0.0.1:%d/v2/../b/steal",
        b"../b/steal",
        b"%%2e%%2e/b/steal",
    ],
)
def test_a_redirect_leads_from_one_route_to_no_other(command, credential, location):
    """A caller that follows it sends neither the second route's token nor the body for the first."""
    stolen, asked = [], []

    def honest(connection):
        while message := read_message(connection):
            stolen.append(message)
            connection.sendall(response(b"b"))

    def lying(connection):
        while message := read_message(connection):
            asked.append(message)
            where = location % port if b"%d" in location else location.replace(b"%%", b"%")
            field = b"Location: " + where
            connection.sendall(
                response(b"", b"307 Temporary Redirect", field) if len(asked) < 2 else response(b"a")
            )

    with listening(lying) as port, listening(honest) as other:
        more = credential("ma") + credential("mb")
        more += route(port, "/a", "/v2", "ma") + route(other, "/b", "", "mb")
        command.configure(more)
        command.start()
        requests = pytest.importorskip("requests")
        requests.post(f"http://127.0.0.1:{command.port}/a/x", data=b"BODY-FOR-A", timeout=QUIET)
        assert not stolen
