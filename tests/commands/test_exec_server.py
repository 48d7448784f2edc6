"""The configuration of the server that `exec` starts, and what it says of the routes."""

import pytest

from proxy.commands.exec_server import LOOPBACK, own_config
from proxy.commands.route_urls import _unknown, base_urls
from proxy.config.address import Address
from proxy.config.load import load
from proxy.errors import ConfigError

CONFIG = """
[server]
listen = {listen}
health = "0.0.0.0:9102"
plaintext = true
{more}
[log]
level = "{level}"
[callers.me]
key_sha256 = "{digest}"
[credentials.crm]
issuer = "https://login.example"
client_id = "app"
[[routes]]
path = "/crm"
upstream = "https://a.example"
credential = "crm"
[[routes]]
listen = "unix:/run/a.sock"
upstream = "https://a.example"
credential = "crm"
[[routes]]
listen = "10.0.0.1:9001"
upstream = "https://a.example"
credential = "crm"
"""


@pytest.fixture
def made(tmp_path):
    """The configuration of the server."""

    def made(listen='"127.0.0.1:8080"', more="", level="info"):
        path = tmp_path / "config.toml"
        path.write_text(CONFIG.format(listen=listen, more=more, level=level, digest="0" * 64))
        return own_config(load(path, {"STATE_DIRECTORY": str(tmp_path)}).config)

    return made


TLS = 'tls = { cert = "config.toml", key = "config.toml"%s }'


def test_it_listens_on_free_ports_of_loopback_only(made):
    own = made('["10.0.0.1:8080", "unix:/run/b.sock"]', TLS % "")
    assert own.server.listen == (LOOPBACK,) == (Address("127.0.0.1", 0),)
    assert own.server.tls is None
    assert own.server.health is None
    assert [route.listen for route in own.routes] == [None, LOOPBACK]
    assert set(own.callers) == {"me"}, "they are identified as before"


def test_unix_sockets_are_not_replaced_by_ports_that_others_reach(made):
    own = made('"unix:/run/b.sock"')
    assert own.server.listen == ()
    assert [route.listen for route in own.routes] == [None, LOOPBACK]


def test_tls_that_keeps_others_out_stays(made):
    own = made('"127.0.0.1:8080"', TLS % ', client_ca = "config.toml"')
    assert own.server.tls.client_ca is not None


@pytest.mark.parametrize(
    ("configured", "level"),
    [("debug", "warning"), ("info", "warning"), ("warning", "warning"), ("error", "error")],
)
def test_it_is_quiet(made, configured, level):
    assert made(level=configured).log.level == level


def entry(variable, url):
    return {"name": variable.lower(), "variable": variable, "base_url": url}


def test_what_is_said_of_routes(made):
    said = []
    urls = base_urls(made(), [entry("CRM_BASE_URL", "http://127.0.0.1:1/crm"), entry("A", None)], said.append)
    assert urls == {"CRM_BASE_URL": "http://127.0.0.1:1/crm"}
    assert said == [
        "warning: route 9001 has no base URL, as it is on a unix socket or not yet served",
    ]
    said.clear()
    base_urls(
        made(),
        [entry("9001_BASE_URL", "http://" + "x" * 64), entry("CRM_BASE_URL", "http://[::1]:1")],
        said.append,
    )
    assert said == [
        "warning: no shell can read 9001_BASE_URL: give its route a `name`, or `env`",
        f"warning: {'x' * 64} does not resolve here, so that 9001_BASE_URL is of no use",
    ]


def test_without_any_base_url_nothing_is_started(made):
    with pytest.raises(ConfigError, match="no route has a base URL"):
        base_urls(made(), [entry("A", None)], print)


def test_a_name_that_does_not_resolve_is_noticed():
    assert _unknown(["x" * 64, "localhost"]) == {"x" * 64}
