"""Names to which browsers send no Fetch Metadata: `check` says so."""

import pytest

from proxy.config.load import load

REST = """
[credentials.c]
client_id = "app"
issuer = "https://login.example"
[[routes]]
path = "/a"
upstream = "https://a.example"
credential = "c"
"""
ROUTE = '[[routes]]\n{place}\nupstream = "https://b.example"\ncredential = "c"\n'
REMEDY = "use a name that ends in .localhost, or serve TLS (server.tls)"


def places(tmp_path, server, route):
    """The lines of the file that the advice is about."""
    file = tmp_path / "config.toml"
    text = f"[server]\n{server}{REST}{ROUTE.format(place=route) if route else ''}"
    file.write_text(text)
    advice = load(file, {"HOME": str(tmp_path)}).advice
    found = [each for each in advice if ".localhost, or serve TLS" in each.message]
    assert all(REMEDY in each.message for each in found)
    return [text.splitlines()[each.line - 1][each.column - 1 :] for each in found]


@pytest.mark.parametrize(
    ("server", "route", "expected"),
    [
        ("", "", []),
        (
            'allowed_hosts = ["proxy.localhost", "LOCALHOST", "127.0.0.2", "[::1]"]',
            'host = "crm.localhost"',
            [],
        ),
        ('allowed_hosts = ["proxy.internal"]', "", ['"proxy.internal"]']),
        ('allowed_hosts = ["a.localhost", "192.168.1.5"]', "", ['"192.168.1.5"]']),
        ('allowed_hosts = ["localhost.evil.example"]', "", ['"localhost.evil.example"]']),
        ("", 'host = "crm.internal"', ['"crm.internal"']),
        ("", 'host = "[fd00::1]"', ['"[fd00::1]"']),
        ("", 'host = "crm.internal"\npath = "/x"', ['"crm.internal"']),
        ("", 'listen = "127.0.0.1:9001"', []),
        ('public_url = "https://tokens.example"', "", []),
        ('public_url = "http://tokens.localhost:8081"', "", []),
        ('listen = "unix:/run/x.sock"', 'host = "crm.internal"', []),
        (
            'listen = "unix:/run/x.sock"\nallowed_hosts = ["x.internal"]',
            'listen = "127.0.0.1:9001"',
            ['"x.internal"]'],
        ),
        ('listen = ["unix:/run/x.sock", "127.0.0.1:1"]', 'host = "crm.internal"', ['"crm.internal"']),
    ],
)
def test_plain_names_that_browsers_do_not_trust_are_named(tmp_path, server, route, expected):
    assert places(tmp_path, server, route) == expected


def test_with_tls_every_name_will_do(tmp_path):
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("")
    server = 'tls = { cert = "cert.pem", key = "key.pem" }\nallowed_hosts = ["proxy.internal"]'
    assert places(tmp_path, server, 'host = "crm.internal"') == []
