"""`admin`, `admin_key` and `admin_trusts` of [server]: each fault, with its line and column."""

import ipaddress

import pytest

from proxy.config.admin_checks import ANY_USER, CLEAR, NO_SOCKET, NO_URL, OPEN
from proxy.secret import MASK

from .conftest import Complaints, Load

KEY = "k" * 20
WEAK = "expected one line of at least 20 visible characters: `openssl rand -base64 32` makes such a key"
NOT_PEER = 'expected the address of the proxy in front, a network like "10.1.0.0/16", or "unix"'
TLS = 'admin_tls = { cert = "config.toml", key = "config.toml" }'
CLIENTS = 'admin_tls = { cert = "config.toml", key = "config.toml", client_ca = "config.toml" }'
TRUSTS = 'admin_trusts = { header = "X-Remote-User", from = ["10.1.2.3"] }'
BEYOND = 'admin = "10.0.0.1:8081"'
EVERYONE = "anyone could claim to be anyone: expected the address of the proxy in front"
FAULTS = [
    (BEYOND, [f"2:9: {OPEN}"]),
    (f"{BEYOND}\n{TLS}", [f"2:9: {OPEN}"]),
    (f"{BEYOND}\n{TLS}\n{TRUSTS}", [f"2:9: {OPEN}"]),
    (f'{BEYOND}\nadmin_key = "{KEY}"', [f"2:9: {CLEAR}"]),
    (f'admin = "0.0.0.0:1"\n{CLIENTS}', ["1:1: public_url is missing - a browser can't connect to 0.0.0.0"]),
    (f'{BEYOND}\n{TRUSTS}\nadmin_key = "{KEY}"', [f"1:1: {NO_URL}"]),
    (f'admin = "[::]:1"\n{CLIENTS}', ["1:1: public_url is missing - a browser can't connect to ::"]),
    (f'admin_key = "{KEY[1:]}"', [f"2:13: {WEAK}"]),
    (f'admin_key = "{KEY} {KEY}"', [f"2:13: {WEAK}"]),
    (f'admin_key = "{KEY}\\n{KEY}"', [f"2:13: {WEAK}"]),
    (f'admin_key = "{KEY}\\u00e9"', [f"2:13: {WEAK}"]),
    ('admin_key = ""', ["2:13: an empty secret - give one, or leave the key out"]),
    (
        'admin_key = { env = "X" }',
        ["2:13: the environment variable X is not set - set it before token-proxy starts"],
    ),
    (
        "admin_trusts = { }",
        [
            "2:16: from is missing - this table requires it",
            "2:16: header is missing - this table requires it",
        ],
    ),
    ('admin_trusts = { header = "X-U", from = "10.1.2.3" }', ['2:41: expected a list: from = ["…"]']),
    ('admin_trusts = { header = "X-U", from = ["nginx"] }', [f"2:42: {NOT_PEER}"]),
    ('admin_trusts = { header = "X-U", from = ["10.1.2.3/8"] }', [f"2:42: {NOT_PEER}"]),
    (
        'admin_trusts = { header = "X-U", from = ["0.0.0.0/0"] }',
        [f"2:41: {EVERYONE}"],
    ),
    ('admin_trusts = { header = "X-U", from = ["0.0.0.0/1", "128.0.0.0/1"] }', [f"2:41: {EVERYONE}"]),
    ('admin_trusts = { header = "X-U", from = ["::ffff:10.1.2.3"] }', [f"2:42: {NOT_PEER}"]),
    ('admin_trusts = { header = "X-U", from = ["unix"] }', [f"2:41: {NO_SOCKET}"]),
    (
        'admin_trusts = { header = "Cookie", from = ["10.1.2.3"] }',
        ["2:27: browsers send this field themselves: expected the field that the proxy in front sets"],
    ),
    (
        'admin_trusts = { header = "X U", from = ["10.1.2.3"] }',
        ["2:27: expected the name of a header field, like Token-Proxy-Account"],
    ),
]
VALID = [
    f'{BEYOND}\n{TLS}\nadmin_key = "{KEY}"',
    f"{BEYOND}\n{CLIENTS}",
    f'{BEYOND}\n{TRUSTS}\nadmin_key = "{KEY}"\npublic_url = "https://tokens.example"',
    f'admin = "0.0.0.0:1"\n{CLIENTS}\npublic_url = "https://tokens.example"',
    f'admin_key = "{KEY}"\n{TRUSTS}',
    """admin = "unix:/run/a"
public_url = "https://tokens.example"
admin_trusts = { header = "X-U", from = ["unix", "::1", "10.1.0.0/16"] }""",
]


@pytest.mark.parametrize(("lines", "expected"), FAULTS)
def test_a_fault_of_the_admin_listener(lines: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(f"[server]\n{lines}\n") == expected


@pytest.mark.parametrize("lines", VALID)
def test_a_valid_admin_listener(lines: str, load_text: Load) -> None:
    load_text(f"[server]\n{lines}\n")


def test_an_empty_list_of_peers_is_a_fault(complaints: Complaints) -> None:
    (fault,) = complaints('[server]\nadmin_trusts = { header = "X-U", from = [] }')
    assert fault == "2:41: an empty list: expected the address of the proxy in front"


def test_the_peers_are_networks(load_text: Load) -> None:
    trusts = load_text(f"[server]\n{TRUSTS}").config.server.admin_trusts
    assert trusts is not None
    assert trusts.header == "X-Remote-User"
    assert trusts.peers == (ipaddress.ip_network("10.1.2.3/32"),)


def test_a_key_in_the_file_itself_is_warned_about_and_never_shown(
    load_text: Load, complaints: Complaints
) -> None:
    loaded = load_text(f'[server]\nadmin_key = "{KEY}"')
    assert [fault.message for fault in loaded.warnings] == [
        'a secret in the configuration file itself - use { env = "NAME" } or { file = "name" }'
    ]
    shown = loaded.warnings[0].render("config.toml")
    assert KEY not in shown
    assert MASK in shown
    assert KEY not in repr(loaded.config)


def test_check_says_that_any_user_of_this_machine_can_name_a_person_from_loopback(load_text: Load) -> None:
    loaded = load_text('[server]\nadmin_trusts = { header = "X-U", from = ["127.0.0.1", "10.1.0.0/16"] }')
    assert [fault.message for fault in loaded.advice] == [ANY_USER]
