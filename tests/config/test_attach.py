"""`attach`, and what routes may say beside it: each fault, with its line and column."""

import pytest

from proxy.config.attach import EXPECTED, AttachBasic, AttachField, AttachQuery

from .conftest import Complaints, Load

START = '[credentials.key]\ngrant = "static"\nvalue = { env = "KEY" }\n'
KEY = {"KEY": "k-1"}
X_API_KEY = '{ header = "X-Api-Key", scheme = "" }'
NAME = "expected the name of a header field, like Token-Proxy-Account"
SCHEME = 'expected an authentication scheme like "Bearer", or "" for the bare token'
OWNED = "this field depends on the connection or the request: expected another field"
TWICE = "two tokens in one place: expected each field and parameter once"
NO_SCHEME = '"" puts the bare token into X-Api-Key, "Bearer" that before it'
UNDERSTOOD = [
    ("{ }", (AttachField(),)),
    ('{ scheme = "token" }', (AttachField(scheme="token"),)),
    ('{ scheme = "" }', (AttachField(scheme=""),)),
    ('{ header = "authorization" }', (AttachField(header="authorization"),)),
    (X_API_KEY, (AttachField(header="X-Api-Key", scheme=""),)),
    ('{ query = "access_token" }', (AttachQuery(query="access_token"),)),
    ('{ basic_user = "x-access-token" }', (AttachBasic(basic_user="x-access-token"),)),
    ('{ basic_user = "" }', (AttachBasic(basic_user=""),)),
    (f"[{X_API_KEY}]", (AttachField(header="X-Api-Key", scheme=""),)),
    (f"[{{ }}, {X_API_KEY}]", (AttachField(), AttachField(header="X-Api-Key", scheme=""))),
]
FAULTS = [  # `attach` begins at column 10 of line 4
    ("5", [f"10: {EXPECTED}"]),
    ('"Authorization"', [f"10: {EXPECTED}"]),
    ("[]", [f"10: {EXPECTED}"]),
    ("[[]]", [f"11: {EXPECTED}"]),
    ("[5]", [f"11: {EXPECTED}"]),
    ('{ query = "a", basic_user = "b" }', [f"10: {EXPECTED}"]),
    ('{ header = "X-Api-Key" }', [f"10: scheme is missing - {NO_SCHEME}"]),
    ('{ headers = "X" }', ["12: unknown key 'headers' - did you mean 'header'?"]),
    ('{ header = "a b", scheme = "" }', [f"21: {NAME}"]),
    ('{ header = "Host", scheme = "" }', [f"21: {OWNED}"]),
    ('{ header = "Transfer-Encoding", scheme = "" }', [f"21: {OWNED}"]),
    ('{ scheme = "a\\nb" }', [f"21: {SCHEME}"]),
    ('{ scheme = " Bearer" }', [f"21: {SCHEME}"]),
    ('{ query = "" }', ['20: expected the name of a query parameter, like "access_token"']),
    ('{ query = "a\\nb" }', ['20: expected the name of a query parameter, like "access_token"']),
    (
        '{ basic_user = "a:b" }',
        ["25: a user of Basic authentication has no colon: expected a name without it"],
    ),
    (f'[{X_API_KEY}, {{ header = "x_api-key", scheme = "" }}]', [f"10: {TWICE}"]),
    ('[{ basic_user = "a" }, { scheme = "token" }]', [f"10: {TWICE}"]),
    ('[{ query = "a" }, { query = "a" }]', [f"10: {TWICE}"]),
]


@pytest.mark.parametrize(("value", "expected"), UNDERSTOOD)
def test_where_the_token_goes(value: str, expected: object, load_text: Load) -> None:
    assert load_text(f"{START}attach = {value}", KEY).config.credentials["key"].attach == expected


@pytest.mark.parametrize(("value", "expected"), FAULTS)
def test_a_fault_of_attach(value: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(f"{START}attach = {value}", KEY) == [f"4:{fault}" for fault in expected]


def test_a_token_in_urls_is_warned_about(load_text: Load) -> None:
    for value in ('{ query = "key" }', f'[{X_API_KEY}, {{ query = "key" }}]'):
        (warning,) = load_text(f"{START}attach = {value}", KEY).warnings
        assert (warning.line, warning.column) == (4, 10)
        assert warning.message.startswith(
            "the token is in URLs, which upstreams and the proxies before them log"
        )


ROUTE = """\
[[routes]]
path = "/x"
upstream = "https://api.example"
credential = "key"
"""
TAKEN = "the token goes into {}: expected another field"
PASSED = (
    "the token of credential 'key' goes into Authorization: expected \"replace\", or that its `attach` has "
    "another field"
)
BESIDE = [  # `attach`, then a line of the route, on line 9
    (X_API_KEY, 'headers = { Authorization = "x" }', []),
    (X_API_KEY, 'headers = { x_api_key = "x" }', [f"13: {TAKEN.format('X-Api-Key')}"]),
    ('{ query = "X-Api-Key" }', 'headers = { X-Api-Key = "x", Authorization = "y" }', []),
    ('{ basic_user = "x" }', 'headers = { authorization = "x" }', [f"13: {TAKEN.format('Authorization')}"]),
    (
        X_API_KEY,
        'account = { header = "x_api_key" }',
        [
            '11: grant = "static" has the account "default" only - leave account out',
            f"22: {TAKEN.format('X-Api-Key')}",
        ],
    ),
    (X_API_KEY, 'caller_authorization = "pass"', []),
    (f"[{{ }}, {X_API_KEY}]", 'caller_authorization = "pass"', [f"24: {PASSED}"]),
    ('{ basic_user = "x" }', 'caller_authorization = "pass"', [f"24: {PASSED}"]),
    ('{ query = "x" }', 'caller_authorization = "pass"', []),
    (
        X_API_KEY,
        'drop = ["authorization"]\ncaller_authorization = "pass"',
        ['24: this route replaces or drops Authorization: expected "replace"'],
    ),
]


@pytest.mark.parametrize(("attach", "line", "expected"), BESIDE)
def test_what_a_route_says_beside_it(
    attach: str, line: str, expected: list[str], complaints: Complaints
) -> None:
    found = complaints(f"{START}attach = {attach}\n{ROUTE}{line}", KEY)
    assert [each.partition(":")[2] for each in found] == expected
