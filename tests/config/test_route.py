"""[[routes]], alone and in pairs: each fault, with its line and column."""

import pytest

from proxy.config.model import AccountHeader, Route

from .conftest import Complaints, Load

CREDENTIALS = """\
credentials.crm = { client_id = "app", issuer = "https://login.example" }
credentials.bot = { client_id = "app", issuer = "https://login.example", client_secret = { env = "S" }, \
grant = "client_credentials" }
"""
TARGET = 'upstream = "https://api.example"\ncredential = "crm"\n'
NETWORK = (
    "anyone on the network could use the tokens: expected a loopback address or a unix socket; or "
    "[callers.NAME], or server.anyone"
)
NO_PLACE = "path is missing - or host, or listen"
NOT_PATH = "expected a path prefix: /name or /name/name, without a slash at the end"
NOT_ACCOUNT = 'expected an account: a name, { header = "…" } or { caller = true }'
PLAIN_HTTP = "http would expose the token to the network: expected https, or plaintext = true"
NOT_PROXY = "expected an egress proxy: http://host:port or http://user:password@host:port"
TOGETHER = "a route's own listener takes every request there - leave out path and host, or listen"
WHOLE = [  # the whole route, from line 4
    (
        "",
        [
            "3:1: credential is missing - this table requires it",
            f"3:1: {NO_PLACE}",
            "3:1: upstream is missing - this table requires it",
        ],
    ),
    (TARGET, [f"3:1: {NO_PLACE}"]),
    (f'path = "/x"\nlisten = "127.0.0.1:1"\n{TARGET}', [f"5:10: {TOGETHER}"]),
    (f'listen = "127.0.0.1:1"\nhost = "x"\n{TARGET}', [f"4:10: {TOGETHER}"]),
    (f'listen = "0.0.0.0:1"\n{TARGET}', [f"4:10: {NETWORK}"]),
    (
        'path = "x"\nupstream = "http://api.example"\ncredential = "cmr"\nstrip_path = 1',
        [
            f'4:8: {NOT_PATH} - did you mean "/x"?',
            f"5:12: {PLAIN_HTTP}",
            "6:14: there is no credential 'cmr' - did you mean 'crm'?",
            "7:14: expected true or false",
        ],
    ),
    (
        'path = "/x"\nupstream = "https://api.example"\ncredential = "zzz"',
        ["6:14: there is no credential 'zzz' - define it as [credentials.NAME]"],
    ),
    (
        'path = "/x"\nupstream = "https://api.example"\ncredential = "bot"\naccount = "alice"',
        ['7:11: grant = "client_credentials" has the account "default" only - leave account out'],
    ),
]
LINES = [  # added on line 7 to a minimal route
    ("websocket = 1", ["7:13: expected true or false"]),
    ("forwarded = 1", ["7:13: expected true or false"]),
    ("paht = '/y'", ["7:1: unknown key 'paht' - did you mean 'path'?"]),
    (
        'name = "CRM"',
        ["7:8: expected a name of at most 63 characters (a-z, 0-9, _ and -) - did you mean 'crm'?"],
    ),
    ('host = "a.example:80"', ["7:8: expected a host name or an IP address, without a port"]),
    ('account = "a b"', ["7:11: expected an account name: letters, digits and . _ @ + -"]),
    ("account = 5", [f"7:11: {NOT_ACCOUNT}"]),
    ("account = { }", ["7:11: header is missing - this table requires it"]),
    (
        "account = { caller = true }",
        ["7:11: there are no callers - define one as [callers.NAME]"],
    ),
    (
        'account = { header = "a b" }',
        ["7:22: expected the name of a header field, like Token-Proxy-Account"],
    ),
    (
        'account = { header = "X", hedaer = "Y" }',
        ["7:27: unknown key 'hedaer' - did you mean 'header'?"],
    ),
    ('proxy = "http://egress:3128/x"', [f"7:9: {NOT_PROXY}"]),
    (
        'tls = { key = "config.toml" }',
        ["7:7: cert is missing - cert and key go together"],
    ),
    (
        'tls = { cert = "config.toml" }',
        ["7:7: key is missing - cert and key go together"],
    ),
    (
        'tls.server_name = "a b"',
        ["7:19: expected a host name or an IP address, without a port"],
    ),
]
PATHS = [
    ("/", True),
    ("/crm", True),
    ("/crm/v1.0/a~b", True),
    ("/@me/a+b", True),
    ("", False),
    ("crm", False),
    ("/crm/", False),
    ("//", False),
    ("/crm//x", False),
    ("/crm/..", False),
    ("/./crm", False),
    ("/crm?x", False),
    ("/crm#x", False),
    ("/crm;x", False),
    ("/cr%6d", False),
    ("/cr m", False),
    ("/ünï", False),
]
UPSTREAMS = [  # upstream, plaintext, whether it is valid
    ("https://api.example", "false", True),
    ("http://127.0.0.1:8000", "false", True),
    ("http://[::1]", "false", True),
    ("unix:/run/api.sock:/v1", "false", True),
    ("http://api.example", "false", False),
    ("http://api.example", "true", True),
]
NAMES = [  # place, default name
    ('path = "/crm"', "crm"),
    ('path = "/CRM/v2.0"', "crm-v2-0"),
    ('path = "/"', "root"),
    ('path = "/@@"', "root"),
    (f'path = "/{"a" * 80}"', "a" * 63),
    ('host = "crm.example"', "crm-example"),
    ('path = "/"\nhost = "crm.example"', "crm-example"),
    ('path = "/x"\nhost = "crm.example"', "x"),
    ('listen = "[::1]:9001"', "9001"),
    ('listen = "unix:/run/crm.sock"', "run-crm-sock"),
    ('path = "/crm"\nname = "other"', "other"),
]
PAIRS = [  # two routes, and the faults of the second, which starts on line 11
    ('path = "/a"', 'path = "/b"', []),
    ('path = "/a"', 'path = "/a"\nhost = "b"\nname = "b"', []),
    (
        'path = "/a"',
        'path = "/a"\nname = "b"',
        ["12:8: route 'a' (line 3) already has this host and path - choose others"],
    ),
    (
        'host = "a.example"',
        'host = "A.Example"\nname = "b"',
        ["12:8: route 'a-example' (line 3) already has this host and path - choose others"],
    ),
    (
        'path = "/a-b"',
        'path = "/a/b"',
        ["11:1: another route (line 3) is already named 'a-b' - choose a different name"],
    ),
    (
        'path = "/a"\nname = "x"',
        'path = "/b"\nname = "x"',
        ["13:8: another route (line 3) is already named 'x' - choose a different name"],
    ),
    (
        'host = "a.example"\nname = "x"',
        'host = "A.example"\npath = "/"',
        ["13:8: route 'x' (line 3) already has this host and path - choose others"],
    ),
    (
        'listen = "127.0.0.1:9001"',
        'listen = "127.0.0.1:9001"\nname = "x"',
        ["12:10: 127.0.0.1:9001 is already used by routes.listen (line 6) - choose another address"],
    ),
    (
        'path = "/a"',
        'listen = "127.0.0.1:8080"',
        ["12:10: 127.0.0.1:8080 is already used by server.listen - choose another address"],
    ),
    (
        'path = "/a"',
        'listen = "127.0.0.1:8081"',
        ["12:10: 127.0.0.1:8081 is already used by server.admin - choose another address"],
    ),
    ('listen = "127.0.0.1:0"\nname = "a"', 'listen = "127.0.0.1:0"\nname = "b"', []),
]


def route(lines: str) -> str:
    return f"{CREDENTIALS}[[routes]]\n{lines}\n"


def only_route(load_text: Load, lines: str) -> Route:
    (found,) = load_text(route(lines + "\n" + TARGET), {"S": "s"}).config.routes
    return found


@pytest.mark.parametrize(("lines", "expected"), WHOLE)
def test_a_route_that_does_not_fit_together(lines: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(route(lines), {"S": "s"}) == expected


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_a_fault_of_a_route(line: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(route(f'path = "/x"\n{TARGET}{line}'), {"S": "s"}) == expected


@pytest.mark.parametrize(("path", "fits"), PATHS)
def test_valid_path_prefixes(path: str, fits: bool, complaints: Complaints) -> None:
    found = complaints(route(f'path = "{path}"\n{TARGET}'), {"S": "s"})
    assert [each.partition(" - did you mean")[0] for each in found] == ([] if fits else [f"4:8: {NOT_PATH}"])


@pytest.mark.parametrize(("upstream", "plaintext", "fits"), UPSTREAMS)
def test_an_upstream_is_https_or_on_this_machine(
    upstream: str, plaintext: str, fits: bool, complaints: Complaints
) -> None:
    lines = f'path = "/x"\nupstream = "{upstream}"\nplaintext = {plaintext}\ncredential = "crm"'
    assert complaints(route(lines), {"S": "s"}) == ([] if fits else [f"5:12: {PLAIN_HTTP}"])


def test_tls_is_for_https_only(complaints: Complaints) -> None:
    lines = 'path = "/x"\nupstream = "http://127.0.0.1"\ncredential = "crm"\ntls = { server_name = "x" }'
    assert complaints(route(lines), {"S": "s"}) == ["7:7: this upstream is not https - leave tls out"]


@pytest.mark.parametrize("upstream", ["http://127.0.0.1", "unix:/run/api.sock"])
def test_no_egress_proxy_for_an_upstream_on_this_machine(upstream: str, complaints: Complaints) -> None:
    lines = f'path = "/x"\nupstream = "{upstream}"\ncredential = "crm"\nproxy = "http://egress:3128"'
    assert complaints(route(lines), {"S": "s"}) == ["7:9: this upstream is on this machine - leave proxy out"]


@pytest.mark.parametrize(("place", "name"), NAMES)
def test_a_route_without_a_name_gets_a_default(place: str, name: str, load_text: Load) -> None:
    assert only_route(load_text, place).name == name


@pytest.mark.parametrize(("first", "second", "expected"), PAIRS)
def test_two_routes(first: str, second: str, expected: list[str], complaints: Complaints) -> None:
    """The second route starts on line 11, whatever the length of the first."""
    text = f"{CREDENTIALS}[[routes]]\n{TARGET}{first}"
    text += "\n" * (10 - text.count("\n"))
    assert complaints(f"{text}[[routes]]\n{second}\n{TARGET}", {"S": "s"}) == expected


def test_an_account_is_a_name_or_named_by_a_header(load_text: Load) -> None:
    assert only_route(load_text, 'path = "/x"').account == "default"
    assert only_route(load_text, 'path = "/x"\naccount = "Alice@example.org"').account == "Alice@example.org"
    by_header = only_route(load_text, 'path = "/x"\naccount = { header = "Token-Proxy-Account" }')
    assert by_header.account == AccountHeader(header="Token-Proxy-Account")


def test_one_table_instead_of_several(complaints: Complaints) -> None:
    assert complaints('[routes]\npath = "/x"') == [
        "1:1: a single table: expected [[routes]] with two brackets, one for each route"
    ]
