"""Odd responses of real authorization servers: none of them may end a login."""

from __future__ import annotations

import gzip
import json
import time

import pytest

from tests.fakes.raw_servers import RotatingServer, listening, read_message, response

LIFETIME = 3  # seconds
CONFIG = """
[credentials.crm]
token_endpoint = "http://127.0.0.1:{server}/token"
grant = "refresh_token"
client_id = "app"
client_secret = "secret"
refresh_token = "R0"

[[routes]]
path = "/crm"
upstream = "http://127.0.0.1:{upstream}"
credential = "crm"
"""
JSON = b"Content-Type: application/json"


def dumped(tokens, **more):
    return json.dumps({**tokens, **more}).encode()


def beside(tokens, raw):
    """`raw` members in front of those of the tokens."""
    return b"{" + raw + b", " + dumped(tokens)[1:]


ODD = {
    "201 Created": lambda t: response(dumped(t), b"201 Created", JSON),
    "203": lambda t: response(dumped(t), b"203 Non-Authoritative Information", JSON),
    "no token_type": lambda t: response(json.dumps({k: t[k] for k in t if k != "token_type"}).encode()),
    "a token_type with a blank": lambda t: response(dumped(t, token_type="Bearer ")),
    "gzip, not said": lambda t: response(gzip.compress(dumped(t)), b"200 OK", JSON),
    "a byte-order mark": lambda t: response(b"\xef\xbb\xbf" + dumped(t), b"200 OK", JSON),
    "Latin-1": lambda t: response(beside(t, b'"name": "Jos\xe9"'), b"200 OK", JSON),
    "NaN": lambda t: response(beside(t, b'"score": NaN'), b"200 OK", JSON),
    "a name twice": lambda t: response(beside(t, b'"x": 1, "x": 2'), b"200 OK", JSON),
    "an error that is none": lambda t: response(dumped(t, error="none"), b"200 OK", JSON),
    "a NUL behind it": lambda t: response(dumped(t) + b"\0", b"200 OK", JSON),
    "a form called text/html": lambda t: response(
        "&".join(f"{k}={v}" for k, v in t.items()).encode(), b"200 OK", b"Content-Type: text/html"
    ),
    "a line break behind the token": lambda t: response(
        dumped(t, access_token=f"{t['access_token']}\n"), b"200 OK", JSON
    ),
}


def api(connection):
    while message := read_message(connection):
        connection.sendall(response(message.partition(b"Authorization: ")[2].partition(b"\r\n")[0]))


@pytest.mark.parametrize("form", ODD)
def test_an_odd_response_that_brings_tokens_costs_no_login(command, form):
    server = RotatingServer(LIFETIME, ODD[form])
    with listening(server) as token_port, listening(api) as upstream:
        command.configure(CONFIG.format(server=token_port, upstream=upstream))
        command.start()
        while server.refreshes < 4:
            status, body = command.get("/crm/x")
            assert (status, body[:8]) == (200, b"Bearer A"), (status, body, command.log())
            assert not server.reused
            time.sleep(0.2)


DEAD = {
    "invalid_grant": response(b'{"error": "invalid_grant"}', b"400 Bad Request", JSON),
    "invalid_request": response(b'{"error": "invalid_request"}', b"401 Unauthorized", JSON),
    "an empty body": response(b"", b"400 Bad Request"),
    "invalid_token": response(b'{"error": "invalid_token"}', b"401 Unauthorized", JSON),
}


@pytest.mark.parametrize("form", DEAD)
def test_all_outputs_agree_that_a_dead_login_needs_a_person(command, form):
    """At the end of the access token at the latest, with any form of refusal."""
    server = RotatingServer(LIFETIME)
    with listening(server) as token_port, listening(api) as upstream:
        command.configure(CONFIG.format(server=token_port, upstream=upstream))
        command.start()
        assert command.get("/crm/x")[0] == 200
        server.refusal = DEAD[form]
        deadline = time.monotonic() + 60
        while command.problem("/crm/x") != "login-required":
            assert time.monotonic() < deadline, command.get("/crm/x")
            time.sleep(0.2)
        assert command.get("/readyz", admin=True)[0] == 503
        assert command.run("token", "crm").returncode == 3
        assert command.run("status").returncode == 3


def test_a_token_refused_by_the_upstream_and_the_server_is_no_longer_served(command):
    """Revoked at the server with an hour left: reported at once, instead of an hour of 401 responses."""
    server = RotatingServer(3600)
    revoked = []

    def strict(connection):
        while message := read_message(connection):
            refused = bool(revoked) or b"Bearer" not in message
            connection.sendall(response(b"no", b"401 Unauthorized") if refused else response(b"ok"))

    with listening(server) as token_port, listening(strict) as upstream:
        command.configure(CONFIG.format(server=token_port, upstream=upstream))
        command.start()
        assert command.get("/crm/x")[0] == 200
        revoked.append(True)
        server.refusal = DEAD["invalid_grant"]
        deadline = time.monotonic() + 60
        while command.problem("/crm/x") != "login-required":
            assert time.monotonic() < deadline, command.get("/crm/x")
            time.sleep(0.2)
        assert command.run("token", "crm").returncode == 3
        assert command.get("/readyz", admin=True)[0] == 503
