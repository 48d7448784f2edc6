"""The keys of the health listener (`health`, `quit`, `health_accounts`), and the advice about probes."""

import base64

import pytest

from proxy.config.address import Address, read_address

from .conftest import Complaints, Load

ALONE = 'this is for the health listener: expected health too, like "0.0.0.0:9102"'
TAKEN = "is already used by {} - choose another address"
BOTH = "of {} can't both be used - choose another port"
LINE_3 = "server.listen (line 3)"
FAULTS = [
    ("health = 9102", ['2:10: expected host and port: "127.0.0.1:9102"']),
    ('health = ""', ["2:10: expected an address: host:port, [::1]:port or unix:/path"]),
    (
        'health = ":9102"',
        ['2:10: expected an address: host:port, [::1]:port or unix:/path - did you mean "127.0.0.1:9102"?'],
    ),
    ('health = ["0.0.0.0:9102"]', ['2:10: expected a string: "…"']),
    ('health = "0.0.0.0:9102"\nquit = "yes"', ["3:8: expected true or false"]),
    ("quit = true", [f"2:8: {ALONE}"]),
    ("health_accounts = false", [f"2:19: {ALONE}"]),
    ("health = 9102\nquit = true", ['2:10: expected host and port: "127.0.0.1:9102"']),
    ('health = "127.0.0.1:8081"', [f"2:10: 127.0.0.1:8081 {TAKEN.format('server.admin')}"]),
    ('health = "127.0.0.1:8080"', [f"2:10: 127.0.0.1:8080 {TAKEN.format('server.listen')}"]),
    ('health = "0.0.0.0:8081"', [f"2:10: 0.0.0.0:8081 and 127.0.0.1:8081 {BOTH.format('server.admin')}"]),
    (
        'health = "0.0.0.0:1"\nlisten = "127.0.0.1:1"',
        [f"2:10: 0.0.0.0:1 and 127.0.0.1:1 {BOTH.format(LINE_3)}"],
    ),
    ('health = "[::]:1"\nlisten = ["localhost:1"]', [f"2:10: [::]:1 and localhost:1 {BOTH.format(LINE_3)}"]),
    ('health = "unix:/run/a"\nlisten = "unix:/run/a"', [f"2:10: unix:/run/a {TAKEN.format(LINE_3)}"]),
    (
        'health = "0.0.0.0:1"\n[limits]\nhealth_connections = 0',
        ["4:22: too small: expected more than 0"],
    ),
]
VALID = [
    'health = "0.0.0.0:9102"',
    'health = "[::]:9102"\nquit = true\nhealth_accounts = false',
    'health = "unix:/run/health"',
    'health = "10.1.2.3:8081"',
    'health = "[::]:8081"',  # which covers no IPv4 address
    'health = "node.internal:9102"',
    'health = "127.0.0.1:0"\nadmin = "127.0.0.1:0"',
    "quit = false\nhealth_accounts = true",
]
OVERLAPS = [
    ("127.0.0.1:1", "127.0.0.1:1", True),
    ("127.0.0.1:1", "127.0.0.1:2", False),
    ("127.0.0.1:0", "127.0.0.1:0", False),
    ("127.0.0.1:1", "127.0.0.2:1", False),
    ("0.0.0.0:1", "127.0.0.2:1", True),
    ("0.0.0.0:1", "[::1]:1", False),
    ("0.0.0.0:1", "[::]:1", False),
    ("[::]:1", "[::1]:1", True),
    ("0.0.0.0:1", "localhost:1", True),
    ("[::]:1", "localhost:1", True),
    ("localhost:1", "127.0.0.1:1", True),
    ("localhost:1", "[::1]:1", True),
    ("localhost:1", "127.0.0.2:1", False),
    ("0.0.0.0:1", "node.internal:1", False),  # its addresses are not known here
    ("node.internal:1", "node.internal:1", True),
    ("unix:/a", "unix:/a", True),
    ("unix:/a", "unix:/b", False),
    ("unix:/a", "0.0.0.0:1", False),
]
SHARED = """
[store]
url = "{url}"
key = "{key}"
"""
CREDENTIAL = """
[credentials.{name}]
issuer = "https://login.example"
client_id = "x"
{more}
[[routes]]
path = "/{name}"
upstream = "https://{name}.example"
credential = "{name}"
"""
POSTGRES = "postgresql://user@host/db"
KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(("lines", "expected"), FAULTS)
def test_a_fault_of_the_health_listener(lines: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(f"[server]\n{lines}\n") == expected


@pytest.mark.parametrize("lines", VALID)
def test_a_valid_health_listener(lines: str, load_text: Load) -> None:
    assert load_text(f"[server]\n{lines}\n").warnings == []


def test_a_listener_of_a_route_is_another_one(complaints: Complaints) -> None:
    route = '[[routes]]\nlisten = "127.0.0.1:9102"\nupstream = "https://a.example"\ncredential = "x"\n'
    (fault,) = complaints(
        f'[server]\nhealth = "0.0.0.0:9102"\n{route}[credentials.x]\nclient_id = "x"\n'
        'issuer = "https://login.example"\n'
    )
    assert fault == f"4:10: 127.0.0.1:9102 and 0.0.0.0:9102 {BOTH.format('server.health (line 2)')}"


def test_by_default_there_is_none(load_text: Load) -> None:
    server = load_text("").config.server
    assert (server.health, server.quit, server.health_accounts) == (None, False, True)


def test_its_address_is_read(load_text: Load) -> None:
    assert load_text('[server]\nhealth = "[::]:9102"').config.server.health == Address("::", 9102)


@pytest.mark.parametrize(("one", "other", "overlap"), OVERLAPS)
def test_addresses_overlap_if_only_one_can_be_listened_on(one: str, other: str, overlap: bool) -> None:
    assert read_address(one).overlaps(read_address(other)) is overlap
    assert read_address(other).overlaps(read_address(one)) is overlap


@pytest.mark.parametrize(
    ("url", "credentials", "advised"),
    [
        (POSTGRES, {"a": "", "b": ""}, True),
        ("redis://host", {"a": "", "b": ""}, True),
        ("memory:", {"a": "", "b": ""}, False),
        (POSTGRES, {"a": ""}, False),
        (POSTGRES, {"a": "", "b": "required = false"}, False),
        (POSTGRES, {"a": "", "b": "required = false", "c": "required = true"}, True),
    ],
)
def test_readyz_of_replicas_that_need_several_logins_is_advised_against(
    url: str, credentials: dict[str, str], advised: bool, load_text: Load
) -> None:
    text = SHARED.format(url=url, key=KEY)
    text += "".join(CREDENTIAL.format(name=name, more=more) for name, more in credentials.items())
    advice = [fault.message for fault in load_text(text).advice if "readyz" in fault.message]
    names = ", ".join(name for name, more in credentials.items() if "false" not in more)
    assert len(advice) == advised
    assert all(
        sentence.startswith(f"/readyz needs all of the credentials {names}: ") and "/startupz" in sentence
        for sentence in advice
    )
