"""Routes whose cookies meet: `check` says so."""

import pytest
from click.testing import CliRunner

from proxy.cli import main

HEAD = """\
[credentials.c]
client_id = "app"
issuer = "https://login.example"
"""
ALONE = ", for ports don't separate them - use another host, such as 127.0.0.2 or host = "


def route(number, place, upstream=None):
    upstream = upstream or f"https://{number}.example"
    return f'[[routes]]\nname = "r{number}"\n{place}\nupstream = "{upstream}"\ncredential = "c"\n'


def ports(name, other):
    return f"it shares cookies with route '{other}'{ALONE}\"{name}.localhost\""


def nests(name, outer):
    return (
        f"it gets the cookies of route '{outer}', whose path encloses this one - use another host, "
        f'such as 127.0.0.2 or host = "{name}.localhost"'
    )


ADVICE = [  # places of the routes (and [server]), what is said at which line and column
    (['path = "/a"', 'path = "/b"'], []),
    (['path = "/a"', 'path = "/a/b"'], [f"11:8: {nests('r1', 'r0')}"]),
    (['path = "/a/b"', 'path = "/a"'], [f"6:8: {nests('r0', 'r1')}"]),
    (['path = "/a"', 'path = "/ab"'], []),
    (['path = "/"', 'path = "/a"'], [f"11:8: {nests('r1', 'r0')}"]),
    (['path = "/a"', 'listen = "127.0.0.1:9001"'], [f"11:10: {ports('r1', 'r0')}"]),
    (['path = "/a"', 'listen = "[::1]:9001"'], [f"11:10: {ports('r1', 'r0')}"]),
    (['path = "/a"', 'listen = "127.0.0.2:9001"'], []),
    (['path = "/a"', 'listen = "unix:/run/a.sock"'], []),
    (['host = "crm.localhost"', 'listen = "127.0.0.1:9001"'], []),
    (['host = "localhost"', 'listen = "127.0.0.1:9001"'], [f"11:10: {ports('r1', 'r0')}"]),
    (['listen = "127.0.0.1:9001"', 'listen = "localhost:9002"'], [f"11:10: {ports('r1', 'r0')}"]),
    (['listen = "unix:/run/a.sock"', 'listen = "unix:/run/b.sock"'], []),
    (['host = "a.localhost"', 'host = "b.localhost"'], []),
    (['path = "/"', 'host = "a.localhost"'], []),
    (['path = "/"', 'host = "a.localhost"\npath = "/x"'], [f"12:8: {nests('r1', 'r0')}"]),
    (['path = "/x"', 'host = "a.localhost"\npath = "/x"'], []),
]


@pytest.mark.parametrize(("places", "expected"), ADVICE)
def test_check_says_where_cookies_meet(places, expected, load_text):
    loaded = load_text(HEAD + "".join(route(number, place) for number, place in enumerate(places)))
    assert loaded.warnings == []
    assert [f"{fault.line}:{fault.column}: {fault.message}" for fault in loaded.advice] == expected


def test_routes_to_one_server_may_share_cookies(load_text):
    places = [
        route(0, 'path = "/a"', "https://api.example/v1"),
        route(1, 'path = "/a/b"', "https://api.example/v2"),
    ]
    assert load_text(HEAD + "".join(places)).advice == []


def test_only_check_prints_it_and_it_is_no_fault(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(HEAD + route(0, 'path = "/a"') + route(1, 'path = "/a/b"'))
    done = CliRunner().invoke(main, ["check", "-c", str(file)])
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{file}: no faults (1 credential, 2 routes)\n")
    assert done.stderr.startswith(f"warning: {file}:11:8: it gets the cookies of route 'r0'")
    other = CliRunner().invoke(main, ["token", "nobody", "-c", str(file)])
    assert "cookies" not in other.stderr
