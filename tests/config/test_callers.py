"""[callers.NAME], and the listeners, routes and keys of [server] that need it."""

import hashlib
from pathlib import Path

import pytest

from proxy import caller_keys

from .conftest import NOT_REFERENCE, Complaints, Load

KEY = "tpk_" + "k" * 43
CREDENTIAL = """
[credentials.crm]
token_endpoint = "https://login.example/token"
authorization_endpoint = "https://login.example/authorize"
client_id = "app"
"""
ROUTES = (
    CREDENTIAL
    + """
[[routes]]
path = "/crm"
upstream = "https://api.example"
credential = "crm"
"""
)
NAMES = "expected a name in its certificate: a URI, a DNS name or an e-mail address"
NOT_SET = "the environment variable NOT_SET is not set - set it before token-proxy starts"
NOT_IN_SIX = "expected an IPv4 network in its usual notation: 10.1.0.0/16"
SIGNED_KEY = caller_keys.sign(bytes(32), "a", 1764288000, 60)
SIGNED = (
    "a signed key is accepted while it is valid, and must not be configured: expected a key that "
    "`token-proxy caller-key` makes without --ttl"
)
NOT_A_KEY = "expected a key: one line of at least 20 visible characters, as `token-proxy caller-key` makes"
NOT_A_DIGEST = "expected the SHA-256 of the whole key: 64 hexadecimal digits"
NOT_ALL = '3:12: "*" already means all accounts: expected ["*"], or names only'
NOT_AN_ACCOUNT = "expected an account name: letters, digits and . _ @ + -"
VALUES = [  # a line of the table, its fault
    ('key = "short"', f"2:7: {NOT_A_KEY}"),
    (f'key = "{SIGNED_KEY}"', f"2:7: {SIGNED}"),
    ('key = "a key with blanks in it, long enough"', f"2:7: {NOT_A_KEY}"),
    ('key = "two-lines-of-a-key\\nsecond-line"', f"2:7: {NOT_A_KEY}"),
    ('key = { env = "NOT_SET" }', f"2:7: {NOT_SET}"),
    ("key = []", "2:7: an empty list: expected at least one item"),
    ("key = 5", f"2:7: {NOT_REFERENCE}"),
    (f'key_sha256 = "{"0" * 63}"', f"2:14: {NOT_A_DIGEST}"),
    (f'key_sha256 = ["{"0" * 64}", "{"g" * 64}"]', f"2:83: {NOT_A_DIGEST}"),
    ('certificate = "two words"', f"2:15: {NAMES}"),
    ('certificate = "*.example"', f"2:15: {NAMES}"),
    ('certificate = "10.0.0.1"', f"2:15: {NAMES}"),
    ('certificate = ""', f"2:15: {NAMES}"),
    ("uid = -1", "2:7: too small: expected 0 or more"),
    ("uid = true", "2:7: expected a whole number, without quotes"),
    ('uid = "root"', "2:7: expected a whole number, without quotes"),
    ("gid = [4294967295]", "2:8: too large: expected at most 4294967294"),
    ('networks = "10.0.0.1/8"', "2:12: expected a network: 10.0.0.0/8, or one address without a length"),
    ('networks = ["lan"]', "2:13: expected a network: 10.1.0.0/16, fd00::/8 or one address"),
    ('networks = ["::ffff:10.0.0.0/104"]', f"2:13: {NOT_IN_SIX}"),
    (f'key = "{KEY}"\naccounts = ["a b"]', f'3:13: {NOT_AN_ACCOUNT}; or ["*"] for all'),
    (f'key = "{KEY}"\naccounts = ["*", "a"]', NOT_ALL),
    (f'key = "{KEY}"\naccount = "a b"', f"3:11: {NOT_AN_ACCOUNT}"),
    (f'key = "{KEY}"\nroutes = "crm"', '3:10: expected a list: routes = ["…"]'),
    (f'key = "{KEY}"\nroutes = ["crn"]', "3:11: there is no route 'crn' - did you mean 'crm'?"),
    (f'key = "{KEY}"\nnot_before = -1', "3:14: too small: expected 0 or more"),
    (f'key = "{KEY}"\nnot_before = inf', "3:14: expected a finite number"),
    (f'key = "{KEY}"\ntokens = ["crn"]', "3:11: there is no credential 'crn' - did you mean 'crm'?"),
    (f'key = "{KEY}"\ntokens = "crm"', '3:10: expected a list: tokens = ["…"]'),
    (f'key = "{KEY}"\nrutes = ["crm"]', "3:1: unknown key 'rutes' - did you mean 'routes'?"),
]  # fmt: skip
NO_IDENTITY = (
    "1:1: this caller has no identity - expected key, key_sha256, certificate, uid, gid or networks; or "
    "not_before, for signed keys only"
)


@pytest.mark.parametrize(("line", "expected"), VALUES)
def test_a_fault_of_a_caller(line: str, expected: str, complaints: Complaints) -> None:
    found = complaints(f"[callers.app]\n{line}\n{ROUTES}")
    assert [
        fault for fault in found if not fault.endswith(("set server.tls.client_ca", "to server.listen"))
    ] == [expected]


def test_a_token_that_is_bound_to_a_key_can_not_be_fetched(complaints: Complaints) -> None:
    text = f'[callers.app]\nkey = "{KEY}"\ntokens = ["crm"]\n{ROUTES}'
    assert complaints(text) == []
    (found,) = complaints(text.replace("[credentials.crm]", "[credentials.crm]\ndpop = true"))
    assert found.startswith("3:11: its tokens are bound to a key (dpop)")


def test_a_caller_needs_an_identity(complaints: Complaints) -> None:
    assert complaints('[callers.app]\naccount = "x"') == [NO_IDENTITY]
    assert complaints("[callers.app]") == [NO_IDENTITY]
    assert complaints("[callers.app]\nnot_before = 1764288000") == []


@pytest.mark.parametrize("name", ["App", "'a.b'", "''", "a" * 64])
def test_a_caller_has_a_name_like_a_route(name: str, complaints: Complaints) -> None:
    found = complaints(f"[callers.{name}]\nkey = '{KEY}'")
    assert len(found) == 1
    assert found[0].startswith("1:10: expected a name of at most 63 characters (a-z, 0-9, _ and -)")


def test_all_faults_are_reported_at_once(complaints: Complaints) -> None:
    text = """\
[server]
listen = "0.0.0.0:80"
anyone = "0.0.0.0/0"
[callers.one]
key = "x"
uid = [5]
certificate = "a.example"
[callers.two]
[callers.three]
uid = [7, 5]
routes = ["none"]
"""
    assert [fault.partition(" ")[0] for fault in complaints(text)] == [
        *("3:10:", "3:10:", "5:7:", "6:7:", "7:15:", "8:1:", "10:7:", "10:11:", "11:11:"),
    ]  # fmt: skip


# -- identities

SAME = [
    ("uid = 5", "uid = [4, 5]", "caller 'one' has the same uid - use another identity"),
    ("gid = [5]", "gid = 5", "caller 'one' has the same gid - use another identity"),
    (
        'certificate = "A.example"',
        'certificate = ["b.example", "a.EXAMPLE"]',
        "caller 'one' has the same certificate - use another identity",
    ),
    (
        'certificate = "me@A.example"',
        'certificate = "me@a.example"',
        "caller 'one' has the same certificate - use another identity",
    ),
    (f'key = "{KEY}"', f'key = ["{KEY[:-1]}x", "{KEY}"]', "caller 'one' has the same key - use another one"),
    (
        f'key = "{KEY}"',
        f'key_sha256 = "{hashlib.sha256(KEY.encode()).hexdigest().upper()}"',
        "caller 'one' has the same key - use another one",
    ),
    (
        'networks = "10.0.0.0/8"',
        'networks = ["192.168.0.0/16", "10.1.0.0/16"]',
        "caller 'one' has addresses of this network - add another identity to one of them",
    ),
]
LISTENERS = '[server]\nlisten = "unix:/run/s"\ntls = { cert = "f", key = "f", client_ca = "f" }\n'


@pytest.mark.parametrize(("one", "two", "sentence"), SAME)
def test_two_callers_with_one_identity_are_a_fault(
    one: str, two: str, sentence: str, complaints: Complaints, tmp_path: Path
) -> None:
    (tmp_path / "f").touch()
    (found,) = complaints(f"{LISTENERS}[callers.one]\n{one}\n[callers.two]\n{two}\n")
    assert found.startswith("7:")
    assert found.endswith(f": {sentence}")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("uid = 5", "gid = 5"),
        ('certificate = "me@a.example"', 'certificate = "ME@a.example"'),
        ('certificate = "spiffe://a/b"', 'certificate = "spiffe://a/B"'),
        (f'key = "{KEY}"\nnetworks = "10.0.0.0/8"', 'networks = "10.0.0.0/8"'),
        ('networks = "10.0.0.0/8"', 'networks = "fd00::/8"'),
        ("uid = [5, 5]", "uid = 6"),
    ],
)
def test_other_callers_are_none(one: str, two: str, complaints: Complaints, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert complaints(f"{LISTENERS}[callers.one]\n{one}\n[callers.two]\n{two}\n") == []


def test_an_identity_needs_a_listener_that_tells_it(complaints: Complaints) -> None:
    text = '[callers.app]\nuid = 5\ngid = 6\ncertificate = "a.example"\n'
    assert complaints(text) == [
        "2:7: uid is known on unix sockets only - add a unix socket to server.listen",
        "3:7: gid is known on unix sockets only - add a unix socket to server.listen",
        "4:15: no listener asks for certificates - set server.tls.client_ca",
    ]
    route = ROUTES.replace('path = "/crm"', 'listen = { unix = "/run/s" }')
    assert complaints(f"[callers.app]\nuid = 5\n{route}") == []


def test_keys_may_come_from_files_and_the_environment(load_text: Load, tmp_path: Path) -> None:
    (tmp_path / "one.key").write_text("a-key-of-one-line-only\n")
    caller = '[callers.app]\nkey = [{ file = "one.key" }, { env = "KEY" }]\n'
    loaded = load_text(caller, {"KEY": KEY})
    app = loaded.config.callers["app"]
    assert app.digests == {hashlib.sha256(key).digest() for key in (b"a-key-of-one-line-only", KEY.encode())}
    assert (app.name, app.own_account, app.routes, app.accounts) == ("app", "app", None, ())
    assert loaded.warnings == []
    assert KEY not in repr(loaded)


def test_a_key_in_the_file_itself_is_warned_about(load_text: Load) -> None:
    (warning,) = load_text(f'[callers.app]\nkey = "{KEY}"').warnings
    assert "a secret in the configuration file itself" in warning.message
    assert KEY not in warning.render("config.toml")


@pytest.mark.parametrize(
    "line", [f'key = "{KEY}" "', f'key_sha256 = "{KEY}"', f'kye = "{KEY}"', f'key = ["x", "{KEY}"]']
)
def test_no_fault_shows_a_key(line: str, load_text: Load) -> None:
    from proxy.errors import ConfigError

    with pytest.raises(ConfigError) as refused:
        load_text(f"[callers.app]\n{line}")
    assert KEY not in str(refused.value)


def test_networks_alone_are_warned_about(load_text: Load) -> None:
    (warning,) = load_text('[callers.app]\nnetworks = "10.0.0.0/8"').warnings
    assert warning.message.startswith("every program in these networks counts as this caller")
    assert load_text(f'[callers.app]\nnetworks = "10.0.0.0/8"\nkey_sha256 = "{"0" * 64}"').warnings == []
    (warning,) = load_text(
        '[server]\nlisten = "unix:/run/s"\n[callers.app]\nnetworks = "10.0.0.0/8"\nuid = 5'
    ).warnings
    assert "uid and gid never fit here" in warning.message


# -- accounts


def test_an_account_for_each_caller_needs_callers(complaints: Complaints) -> None:
    route = ROUTES + "account = { caller = true }\n"
    (found,) = complaints(route)
    assert found.endswith("there are no callers - define one as [callers.NAME]")
    assert complaints(f'{route}[callers.app]\nkey = "{KEY}"') == []
    (found,) = complaints(f'{ROUTES}account = {{ caller = false }}\n[callers.app]\nkey = "{KEY}"')
    assert "expected" in found


# -- listeners beyond this machine

ANYONE = (
    "anyone on the network could use the tokens: expected a loopback address or a unix socket; or "
    "[callers.NAME], or server.anyone"
)
READABLE = "without TLS the network could read callers' keys: expected server.tls, or server.plaintext = true"
TLS = '\ntls = { cert = "f", key = "f", client_ca = "f" }'
FAR = [
    ("", "", ANYONE),
    (TLS, "", ANYONE),
    ("\nplaintext = true", "", ANYONE),
    ("", f'key_sha256 = "{"0" * 64}"', READABLE),
    ("", "not_before = 5", READABLE),
    ("\nplaintext = false", f'key_sha256 = "{"0" * 64}"', READABLE),
    ("\nplaintext = true", f'key_sha256 = "{"0" * 64}"', ""),
    (TLS, f'key_sha256 = "{"0" * 64}"', ""),
    (TLS, 'certificate = "a.example"', ""),
    ("", 'networks = "10.0.0.0/8"', ""),
    ('\nanyone = "172.18.0.0/16"', "", ""),
]


@pytest.mark.parametrize(("server", "caller", "sentence"), FAR)
def test_a_listener_beyond_this_machine_needs_callers(
    server: str, caller: str, sentence: str, complaints: Complaints, tmp_path: Path
) -> None:
    (tmp_path / "f").touch()
    callers = f"[callers.app]\n{caller}\n" if caller else ""
    for listen in ('listen = "0.0.0.0:80"', 'listen = ["127.0.0.1:1", "[2001:db8::1]:80"]'):
        found = complaints(f"[server]\n{listen}{server}\n{callers}")
        assert [each.partition(": ")[2] for each in found] == ([sentence] if sentence else [])
    route = ROUTES.replace('path = "/crm"', 'listen = "10.0.0.1:90"')
    found = complaints(f"[server]{server}\n{callers}{route}")
    assert [each.partition(": ")[2] for each in found] == ([sentence] if sentence else [])


ALL_ADDRESSES = "these are all addresses: expected the networks of your own programs only"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('anyone = "0.0.0.0/0"', f"2:10: {ALL_ADDRESSES}"),
        ('anyone = ["0.0.0.0/1", "128.0.0.0/1"]', f"2:10: {ALL_ADDRESSES}"),
        ('anyone = ["10.0.0.0/8", "::/0"]', f"2:10: {ALL_ADDRESSES}"),
        ("anyone = []", "2:10: an empty list: expected at least one network, or leave the key out"),
        ("anyone = true", '2:10: expected a string: "…"'),
        ("plaintext = 1", "2:13: expected true or false"),
    ],
)  # fmt: skip
def test_a_fault_of_anyone(line: str, expected: str, complaints: Complaints) -> None:
    assert complaints(f"[server]\n{line}\n") == [expected]


def test_anyone_is_warned_about_and_does_not_go_with_callers(load_text: Load, complaints: Complaints) -> None:
    (warning,) = load_text('[server]\nanyone = ["172.18.0.0/16", "fd00::/8"]').warnings
    assert warning.message.startswith("every program in these networks may use all routes and accounts")
    (found,) = complaints(f'[server]\nanyone = "172.18.0.0/16"\n[callers.app]\nkey = "{KEY}"')
    assert found == "2:10: anyone does not go with callers - leave it out, or make these networks a caller's"


# -- unix sockets

OTHERS = '2:36: others may connect only where callers have uid or gid: expected "0600"'
NOT_A_MODE = '2:36: expected the mode of a socket: "0600", "0660" or "0666"'
NO_GROUP = "2:37: there is no such group on this machine - create it, or give its number"
TAKEN = "2:26: unix:/run/s is already used by server.listen (line 2) - choose another address"
BY_UID = "\n[callers.app]\nuid = 1001\n"
SOCKETS = [
    ('{ unix = "/run/s" }', "", []),
    ('{ unix = "/run/s", mode = "0600", group = 5 }', "", []),
    ('{ unix = "/run/s", mode = "660" }', BY_UID, []),
    ('["127.0.0.1:1", { unix = "/run/s", mode = "0666" }]', BY_UID, []),
    ('{ unix = "/run/s", mode = "0660" }', "", [OTHERS]),
    ('{ unix = "/run/s", mode = "0660" }', f'\n[callers.app]\nkey = "{KEY}"', [OTHERS]),
    (
        '{ unix = "/run/s", mode = 660 }',
        BY_UID,
        ['2:36: expected the mode in quotes, as octal digits: "0660"'],
    ),
    ('{ unix = "/run/s", mode = "0777" }', BY_UID, [NOT_A_MODE]),
    ('{ unix = "/run/s", mode = "0060" }', BY_UID, [NOT_A_MODE]),
    ('{ unix = "/run/s", mode = "9" }', BY_UID, [NOT_A_MODE]),
    ('{ unix = "/run/s", group = "no-such-group" }', BY_UID, [NO_GROUP]),
    ('{ unix = "/run/s", group = -1 }', BY_UID, ["2:37: expected the name or the number of a group"]),
    ('{ unix = "run/s" }', "", ["2:19: expected an absolute path, like unix:/run/token-proxy.sock"]),
    ('{ mode = "0600" }', "", ["2:10: unix is missing - this table requires it"]),
    ('{ unix = "/run/s", moed = "0600" }', "", ["2:29: unknown key 'moed' - did you mean 'mode'?"]),
    ('["unix:/run/s", { unix = "/run/s", mode = "0660" }]', BY_UID, [TAKEN]),
]


@pytest.mark.parametrize(("value", "more", "expected"), SOCKETS)
def test_a_socket_for_other_users(value: str, more: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(f"[server]\nlisten = {value}\n{more}") == expected


def test_a_socket_has_its_mode_and_group(load_text: Load) -> None:
    import grp

    group = grp.getgrgid(0).gr_name
    listen = f'[{{ unix = "/a", mode = "0660", group = "{group}" }}, {{ unix = "/b", group = 7 }}, "unix:/c"]'
    found = load_text(f"[server]\nlisten = {listen}\n{BY_UID}").config.server.listen
    assert [(str(each), each.mode, each.group) for each in found] == [
        ("unix:/a", 0o660, 0),
        ("unix:/b", 0o600, 7),
        ("unix:/c", 0o600, None),
    ]


@pytest.mark.parametrize(
    ("callers", "unix", "tcp"),
    [
        ("", False, False),
        ('[callers.a]\ncertificate = "a.example"', False, False),
        (f'[callers.a]\ncertificate = "a.example"\n[callers.b]\nkey_sha256 = "{"0" * 64}"', True, True),
        ('[callers.a]\ncertificate = "a.example"\nnot_before = 5', True, True),
        ('[callers.a]\ncertificate = "a.example"\nuid = 5', True, False),
        ('[callers.a]\ncertificate = "a.example"\nnetworks = "10.0.0.0/8"', False, False),
        ('[callers.a]\nnetworks = "10.0.0.0/8"', True, True),
    ],
)
def test_a_client_certificate_is_optional_where_another_identity_fits(
    callers: str, unix: bool, tcp: bool, load_text: Load, tmp_path: Path
) -> None:
    (tmp_path / "f").touch()
    server = f'[server]\nlisten = ["unix:/run/s", "127.0.0.1:1"]{TLS}\n'
    config = load_text(server + callers).config
    found = [config.listener_tls(address) for address in config.server.listen]
    assert [tls and tls.certificates_optional for tls in found] == [unix, tcp]
