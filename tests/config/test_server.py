"""[server], [store], [limits], [log]: each fault, with its line and column."""

from pathlib import Path

import pytest

from proxy.config.address import Address, read_egress
from proxy.config.admin_checks import OPEN
from proxy.secret import Secret

from .conftest import Complaints, Load

NETWORK = (
    "anyone on the network could use the tokens, as this version can't authenticate callers: "
    "expected a loopback address or a unix socket"
)
WITHOUT_CALLERS = (
    "anyone on the network could use the tokens: expected a loopback address or a unix socket; or "
    "[callers.NAME], or server.anyone"
)
NOT_ADDRESS = "expected an address: host:port, [::1]:port or unix:/path"
NOT_STORE = "expected a store: sqlite:NAME, postgresql://…, redis://…, rediss://… or memory:"
NO_KEY = "key is missing - a store shared by several hosts needs a key they share"
NOT_NUMBER = "expected a number, without quotes"
NOT_USABLE = "expected a finite number"
NOT_WHOLE = "expected a whole number, without quotes"
NOT_TEXT = 'expected a string: "…"'
NOT_TABLE = "expected a table: [ … ] on a line of its own, or { … }"
SERVER = [
    ('listen = "0.0.0.0:8080"', [f"2:10: {WITHOUT_CALLERS}"]),
    ('listen = ["127.0.0.1:1", "[::]:2"]', [f"2:26: {WITHOUT_CALLERS}"]),
    ('listen = "8080"', [f'2:10: {NOT_ADDRESS} - did you mean "127.0.0.1:8080"?']),
    ("listen = 8080", ['2:10: expected host and port: "127.0.0.1:8080"']),
    ("listen = true", ['2:10: expected "host:port", "[::1]:port", "unix:/path", or a list of these']),
    ("listen = [8080]", ['2:11: expected host and port: "127.0.0.1:8080"']),
    ("listen = [80800]", ["2:11: port 80800 is too large: expected at most 65535"]),
    ("listen = [-1]", [f"2:11: {NOT_TEXT}"]),
    ('listen = "::1:8080"', [f'2:10: {NOT_ADDRESS} - did you mean "[::1]:8080"?']),
    ('listen = "*:8080"', [f'2:10: {NOT_ADDRESS} - did you mean "127.0.0.1:8080"?']),
    ('listen = "127.0.0.1:80800"', ["2:10: port 80800 is too large: expected at most 65535"]),
    ("listen = []", ["2:10: an empty list: expected at least one address"]),
    ('admin = "10.0.0.1:8081"', [f"2:9: {OPEN}"]),
    (
        'admin = "unix:/run/admin.sock"',
        ["1:1: public_url is missing - a browser can't connect to a unix socket"],
    ),
    (
        f'admin = "unix:/{"a" * 107}"\npublic_url = "https://proxy.example"',
        ["2:9: the socket's path is too long: expected at most 107 bytes"],
    ),
    (
        'public_url = "http://proxy.example"',
        ["2:14: http would expose secrets to the network: expected https (http on loopback only)"],
    ),
    (
        'public_url = "https://proxy.example/sub"',
        ["2:14: the admin listener needs its own origin: expected https://host without a path"],
    ),
    (
        'public_url = "https://proxy.example/?x"',
        ["2:14: no query allowed in this URL: expected https://host/path"],
    ),
    (
        'allowed_hosts = ["a.example", "b.example:80"]',
        ["2:31: expected a host name or an IP address, without a port"],
    ),
    ("state_dir = 1", [f"2:13: {NOT_TEXT}"]),
    ('state_dir = ""', ["2:13: expected the path of a file"]),
    ("tls = true", [f"2:7: {NOT_TABLE}"]),
    (
        "tls = { }",
        ["2:7: cert is missing - this table requires it", "2:7: key is missing - this table requires it"],
    ),
]
OTHERS = [
    ("server = 1", [f"1:10: {NOT_TABLE}"]),
    ("[[server]]", [f"1:3: {NOT_TABLE}"]),
    ('[store]\nurl = "postgresql://db/tokens"', [f"1:1: {NO_KEY}"]),
    ('[store]\nurl = "rediss://cache"', [f"1:1: {NO_KEY}"]),
    ('[store]\nurl = "redis:cache"', [f"2:7: {NOT_STORE}"]),
    ('[store]\nurl = "sqlite:"', [f"2:7: {NOT_STORE}"]),
    ('[store]\nurl = "memory:x"', [f"2:7: {NOT_STORE}"]),
    (
        '[store]\nkey = "c2hvcnQ="',
        ["2:7: expected 32 bytes in base64: `openssl rand -base64 32` makes such a key"],
    ),
    ('[store]\nkey = ""', ["2:7: an empty secret - give one, or leave the key out"]),
    ("[limits]\nidle = 0", ["2:8: too small: expected more than 0"]),
    ("[limits]\nidle = -1.5", ["2:8: too small: expected more than 0"]),
    ("[limits]\nidle = 86401", ["2:8: too large: expected at most 86400"]),
    ("[limits]\nidle = nan", [f"2:8: {NOT_USABLE}"]),
    ("[limits]\nidle = inf", [f"2:8: {NOT_USABLE}"]),
    ("[limits]\nidle = '75'", [f"2:8: {NOT_NUMBER}: 75"]),
    ("[limits]\nidle = true", [f"2:8: {NOT_NUMBER}"]),
    ("[limits]\nidle = 07:32:00", [f"2:8: {NOT_NUMBER}"]),
    ("[limits]\nfields = 1.5", [f"2:10: {NOT_WHOLE}"]),
    ("[limits]\nfields = true", [f"2:10: {NOT_WHOLE}"]),
    ("[limits]\nfields = 9999999999999999999999", ["2:10: too large: expected at most 2147483647"]),
    (
        "[limits]\nheader_size = 100\nfield_size = 101",
        ["2:15: smaller than a single field: expected at least field_size"],
    ),
    (
        '[log]\nlevel = "inof"',
        ['2:9: expected "debug", "info", "warning" or "error" - did you mean "info"?'],
    ),
    ("[log]\nformat = 1", ['2:10: expected "auto", "text" or "json"']),
    ("[log]\nlevle = 'info'", ["2:1: unknown key 'levle' - did you mean 'level'?"]),
    (
        "[log]\ncolour = 'red'",
        ["2:1: unknown key 'colour' - known here: level, format, audit, audit_required"],
    ),
    ("[log]\naudit = 1", [f"2:9: {NOT_TEXT}"]),
    ("[log]\naudit = ''", ["2:9: expected the path of a file"]),
    ("[log]\naudit = '/'", ["2:9: / is a directory: expected a file"]),
    (
        "[log]\naudit_required = true",
        ["1:1: audit is missing - audit_required needs an audit log"],
    ),
    ("[log]\naudit = 'a'\naudit_required = 'yes'", ["3:18: expected true or false"]),
    ("[lgo]\nlevel = 'info'", ["1:2: unknown key 'lgo' - did you mean 'log'?"]),
    (
        "path = 'config.toml'",
        ["1:1: unknown key 'path' - it is a key of [[routes]]"],
    ),
    (
        "[[callers]]\nnetworks = '10.0.0.0/8'",
        [f"1:3: {NOT_TABLE}"],
    ),
]
PROXIED = """
[server]
proxy = "http://egress:3128"
[credentials.one]
issuer = "https://login.example"
client_id = "x"
[credentials.own]
issuer = "https://login.example"
client_id = "x"
proxy = "http://other:3128"
[credentials.none]
issuer = "https://login.example"
client_id = "x"
proxy = "none"
[[routes]]
path = "/one"
upstream = "https://api.example"
credential = "one"
[[routes]]
path = "/own"
upstream = "https://api.example"
credential = "one"
proxy = "http://other:3128"
[[routes]]
path = "/none"
upstream = "https://api.example"
credential = "one"
proxy = "none"
[[routes]]
path = "/here"
upstream = "http://127.0.0.1:9000"
credential = "one"
"""
STATE_DIRECTORIES = [  # $STATE_DIRECTORY, $XDG_STATE_HOME, what follows
    ("/var/lib/one:/var/lib/two", "/xdg", "/var/lib/one"),
    ("", "/xdg", "/xdg/token-proxy"),
    ("", "", "/home/me/.local/state/token-proxy"),
]


@pytest.mark.parametrize(("line", "expected"), SERVER)
def test_a_fault_of_the_server(line: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(f"[server]\n{line}\n") == expected


@pytest.mark.parametrize(("text", "expected"), OTHERS)
def test_a_fault_of_the_other_tables(text: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(text) == expected


def test_a_missing_tls_file_is_reported_with_its_full_path(complaints: Complaints, tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch()
    assert complaints('[server]\nadmin_tls = { cert = "none.pem", key = "key.pem" }') == [
        f"2:22: there is no file {tmp_path}/none.pem - check the name"
    ]


def test_an_empty_file_means_all_defaults(load_text: Load) -> None:
    config = load_text("").config
    assert config.server.listen == (Address("127.0.0.1", 8080),)
    assert config.server.admin == Address("127.0.0.1", 8081)
    assert config.public_url == "http://127.0.0.1:8081"
    assert config.store.url == Secret("sqlite:tokens.db")
    assert (config.credentials, config.routes) == ({}, ())
    assert (config.limits.token_wait, config.limits.spool) == (15.0, 65536)


def test_one_listener_or_several(load_text: Load) -> None:
    one = load_text('server.listen = "unix:/run/data.sock"').config.server
    assert one.listen == (Address("", 0, "/run/data.sock"),)
    two = load_text('server.listen = ["[::1]:1", "localhost:2"]').config.server
    assert [str(address) for address in two.listen] == ["[::1]:1", "localhost:2"]


@pytest.mark.parametrize(("state_directory", "xdg_state_home", "expected"), STATE_DIRECTORIES)
def test_the_state_directory_without_a_setting(
    state_directory: str,
    xdg_state_home: str,
    expected: str,
    load_text: Load,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    environ = {"STATE_DIRECTORY": state_directory, "XDG_STATE_HOME": xdg_state_home}
    assert load_text("", environ).config.server.state_dir == Path(expected)


def test_a_relative_state_directory_is_relative_to_the_file(load_text: Load, tmp_path: Path) -> None:
    assert load_text('server.state_dir = "state"').config.server.state_dir == tmp_path / "state"


def test_hosts_are_kept_in_lower_case_without_brackets(load_text: Load) -> None:
    server = load_text('server.allowed_hosts = ["Proxy.Internal", "[::1]", "10.0.0.1"]').config.server
    assert server.allowed_hosts == ("proxy.internal", "::1", "10.0.0.1")


def test_the_proxy_of_the_server_is_that_of_credentials_and_routes_that_name_none(load_text: Load) -> None:
    config = load_text(PROXIED).config
    default, other = read_egress("http://egress:3128"), read_egress("http://other:3128")
    assert {name: each.proxy for name, each in config.credentials.items()} == {
        "one": default,
        "own": other,
        "none": None,
    }
    assert {each.name: each.proxy for each in config.routes} == {
        "one": default,
        "own": other,
        "none": None,
        "here": None,  # on this machine
    }


def test_the_url_of_the_store_may_be_elsewhere(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "store.url").write_text("redis://:s3cret@cache\n")
    key = f'key = "{"A" * 43}="'
    by_file = load_text(f'[store]\nurl = {{ file = "store.url" }}\n{key}').config
    assert (by_file.store.url.reveal(), by_file.store.scheme) == ("redis://:s3cret@cache", "redis")
    assert "s3cret" not in repr(by_file)
    by_env = load_text('[store]\nurl = { env = "URL" }', {"URL": "memory:"}).config
    assert by_env.store.is_memory


def test_a_url_of_the_store_that_is_elsewhere_has_the_same_rules(complaints: Complaints) -> None:
    assert complaints('[store]\nurl = { env = "URL" }', {"URL": "mysql://:s3cret@db"}) == [
        f"2:7: {NOT_STORE}"
    ]
    assert complaints('[store]\nurl = { env = "URL" }', {"URL": "redis://:s3cret@db"}) == [f"1:1: {NO_KEY}"]


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("postgresql://user:s3cret@db/tokens", True),
        ("postgresql://user@db/tokens?password=s3cret", True),
        ("redis://:s3cret@cache", True),
        ("postgresql://user@[::1]:5432/tokens", False),
        ("redis://cache:6379/0", False),
    ],
)
def test_a_password_in_the_url_of_the_store_is_warned_about(url: str, warned: bool, load_text: Load) -> None:
    loaded = load_text(f'[store]\nurl = "{url}"\nkey = {{ env = "KEY" }}', {"KEY": "A" * 43 + "="})
    said = [warning.render("config.toml") for warning in loaded.warnings]
    assert [
        each.startswith("config.toml:2:7: a secret in the configuration file itself") for each in said
    ] == [True] * warned
    assert "s3cret" not in "".join(said)


def test_the_audit_log_is_beside_the_file_or_the_standard_output(load_text: Load, tmp_path: Path) -> None:
    assert load_text("").config.log.audit is None
    assert load_text("[log]\naudit = 'audit.log'").config.log.audit == tmp_path / "audit.log"
    assert load_text("[log]\naudit = '/var/log/audit.log'").config.log.audit == Path("/var/log/audit.log")
    assert load_text("[log]\naudit = '-'\naudit_required = true").config.log.audit == Path("-")
