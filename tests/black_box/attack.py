"""Attackers of a server with few open files, by another user too, and the people and programs meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import http.cookiejar
import json
import multiprocessing
import os
import pwd
import re
import select
import socket
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

from tests.fakes.raw_servers import read_message, response

FILES = 256  # that the server may have open
CONNECTIONS = 400  # of the attacker, more than that
AGAIN = 20  # connections opened for closed ones each 20 ms
CALLERS = 40  # on the data listener meanwhile
CONFIG = """
[credentials.m2m]
issuer = "{issuer}"
grant = "client_credentials"
client_id = "app"
client_secret = "secret"

[credentials.person]
issuer = "{issuer}"
grant = "authorization_code"
client_id = "app"
client_secret = "secret"

[[routes]]
path = "/up"
upstream = "http://127.0.0.1:{port}"
credential = "m2m"

[[routes]]
path = "/person"
upstream = "http://127.0.0.1:{port}"
credential = "person"
"""
BEGINNINGS = {
    "silent": b"",
    "half a header": b"GET / HTTP/1.1\r\nHost: loc",
    "between requests": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half a body": b"POST /callback HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n12",
    "errors": b"nonsense\r\n\r\n",
}


def upstream(connection):
    """Each request needs a new connection."""
    read_message(connection)
    connection.sendall(response(b"data", b"200 OK", b"Connection: close"))


class Attacker:
    """Holds connections, and opens another for each that is closed. `again`: sends more after a response."""

    def __init__(self, port, beginning, again):
        self._port = port
        self._beginning = beginning
        self._again = again
        self._poll = select.poll()
        self._held = {}

    def attack(self, told):
        for _ in range(CONNECTIONS):
            self._open()
        told.send("attacking")
        while not told.poll():
            for number, _ in self._poll.poll(20):
                self._read(number)
            for _ in range(min(CONNECTIONS - len(self._held), AGAIN)):
                self._open()
            time.sleep(0.02)

    def _open(self):
        with contextlib.suppress(OSError):
            sock = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            self._held[sock.fileno()] = sock
            self._poll.register(sock, select.POLLIN)
            sock.sendall(self._beginning)

    def _read(self, number):
        sock = self._held[number]
        with contextlib.suppress(OSError):
            if sock.recv(65536):
                sock.sendall(self._again)
                return
        self._poll.unregister(number)
        del self._held[number]
        sock.close()


def run_attacker(port, beginning, user, again, told):
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    Attacker(port, beginning, again).attack(told)


@contextmanager
def attacked(port, beginning, user="", again=b""):
    """Attack by another process, of `user`."""
    fork = multiprocessing.get_context("fork")
    mine, theirs = fork.Pipe()
    process = fork.Process(target=run_attacker, args=(port, beginning, user, again, theirs), daemon=True)
    process.start()
    try:
        assert mine.poll(60)
        assert mine.recv() == "attacking"
        yield
        assert process.is_alive(), "the attack ended early"
    finally:
        with contextlib.suppress(OSError):
            mine.send("enough")
        process.join(30)
        process.kill()


class Person:
    """A browser of the owner."""

    def __init__(self, command):
        self._url = f"http://127.0.0.1:{command.admin_port}"
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(jar)

    def get(self, path):
        with self._opener.open(self._url + path, timeout=60) as got:
            return got.read().decode()

    def _press(self, page, path):
        csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', self.get(page))[1]
        request = urllib.request.Request(self._url + path, headers={"Origin": self._url})
        return self._opener.open(request, urlencode({"csrf": csrf}).encode(), timeout=60)

    def log_in(self):
        with self._press("/login/person", "/login/person") as asked:
            asked.read()
            authorization_page = asked.url
        with self._opener.open(authorization_page, b"user=alice", timeout=60) as ended:
            return ended.read().decode()

    def refresh(self):
        with self._press("/", "/refresh/person/default") as shown:
            return shown.status


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def assert_that_data_flows(command):
    """New callers at once, each with a new upstream connection, and each twice."""
    with ExitStack() as stack:
        callers = [
            stack.enter_context(
                contextlib.closing(http.client.HTTPConnection("127.0.0.1", command.port, timeout=60))
            )
            for _ in range(CALLERS)
        ]
        for _ in range(2):
            for caller in callers:
                caller.request("GET", "/up/x")
            for caller in callers:
                got = caller.getresponse()
                assert (got.status, got.read()) == (200, b"data")


def assert_that_the_owner_can_do_all(command, person):
    assert "Logged in" in person.log_in()
    assert person.refresh() == 200
    assert command.get("/person/x")[1] == b"data"
    assert "person" in person.get("/")
    assert command.get("/healthz", admin=True) == (200, b"ok")
    status = command.run("status", "--json")
    assert status.returncode == 0, status.stderr
    states = {entry["credential"]: entry["state"] for entry in json.loads(status.stdout)["tokens"]}
    assert states == {"m2m": "valid", "person": "valid"}
