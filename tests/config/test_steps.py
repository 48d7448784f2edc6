"""grant = "request": each fault of its keys, with line and column."""

from __future__ import annotations

import pytest

from proxy.config.load import load
from tests.fakes.signing import pem

from .conftest import Complaints, Load

PLACEHOLDER = "expected {jwt}, {secret.NAME} or {step1.PATH}; {{ is a brace"
HTTPS = "http would expose secrets to the network: expected https (http on loopback only)"
ONE = 'steps = [{ url = "https://a.example/login" }]'
RESPONSE = 'response = { token = "token" }'
ROUTE = '[[routes]]\npath = "/x"\nupstream = "https://a.example"\ncredential = "x"\n'
ENVIRON = {"A": "secret-a", "PEM": pem("rsa"), "P256": pem("p256"), "LINES": "a\nb"}


def table(*lines):
    """Line 3 is the first of `lines`."""
    return "\n".join(("[credentials.x]", 'grant = "request"', *lines, ROUTE))


def step(text, *more):
    """`text` begins in column 12 of line 3."""
    return table(f"steps = [ {{ {text} }} ]", RESPONSE, *more)


URLS = [
    ("http://a.example/login", HTTPS),
    ("ftp://a.example/login", "expected a URL: https://host/path"),
    (
        "a.example/login",
        'expected a URL: https://host/path - did you mean "https://a.example/login"?',
    ),
    ("https://me:pw@a.example/", "user and password are not allowed in this URL: expected https://host/path"),
    ("https://a.example/#x", "a fragment is not allowed in this URL: expected https://host/path"),
    *(
        (
            url,
            "a placeholder before the path - scheme, host and port are fixed: expected https://host/path",
        )
        for url in (
            "{secret.A}",
            "{secret.A}://a.example/login",
            "https://{secret.A}/login",
            "https://{secret.A}.a.example/login",
            "https://a.example:{secret.A}/login",
            "https://a.example{secret.A}/login",
        )
    ),
    (
        "https://a.example/login?key={secret.A}",
        "a placeholder in the query, which servers log: expected it in the path, in headers, form or json",
    ),
    ("https://a.example/{secret.A", f"a brace that opens no placeholder: {PLACEHOLDER}"),
    ("https://a.example/{secrets.A}", f"an unknown placeholder: {PLACEHOLDER}"),
    ("https://a.example/{}", f"an unknown placeholder: {PLACEHOLDER}"),
    ("https://a.example/{step0.a}", f"an unknown placeholder: {PLACEHOLDER}"),
    ("https://a.example/a/../b", "dot segments in the path: expected /name/name"),
    ("https://a.example/a/%2E%2e/b", "dot segments in the path: expected /name/name"),
    (
        "https://a.example/a<b",
        "unencoded characters in the URL: expected https://host/path, with others as %XX",
    ),
    ("https://a.example/a b", "expected a URL in ASCII: https://host/path"),
]


@pytest.mark.parametrize(("url", "sentence"), URLS)
def test_a_fault_in_an_url(complaints: Complaints, url: str, sentence: str) -> None:
    assert complaints(step(f'url = "{url}"'), ENVIRON) == [f"3:19: {sentence}"]


LOGIN = 'url = "https://a.example/login"'  # columns 13 to 43; more begins in column 46
FAULTS = [  # the text of a step, its faults
    ("", ["3:11: url is missing - this table requires it"]),
    (f'{LOGIN}, method = "DELETE"', ['3:55: expected "GET", "POST", "PUT" or "PATCH"']),
    (f'{LOGIN}, method = "{{jwt}}"', ['3:55: expected "GET", "POST", "PUT" or "PATCH"']),
    (f'{LOGIN}, methods = "GET"', ["3:46: unknown key 'methods' - did you mean 'method'?"]),
    (
        f'{LOGIN}, method = "GET", form = {{ }}',
        ['3:69: a GET has no body - leave it out, or choose method = "POST"'],
    ),
    (
        f'{LOGIN}, method = "GET", json = {{ }}',
        ['3:69: a GET has no body - leave it out, or choose method = "POST"'],
    ),
    (f"{LOGIN}, json = {{ }}, form = {{ }}", ["3:65: json is set too: expected only one of the two"]),
    (
        f'{LOGIN}, headers = {{ "A b" = "x" }}',
        ["3:58: expected the name of a header field, like Token-Proxy-Account"],
    ),
    (
        f'{LOGIN}, headers = {{ "{{jwt}}" = "x" }}',
        ["3:58: expected the name of a header field, like Token-Proxy-Account"],
    ),
    (f'{LOGIN}, headers = {{ host = "x" }}', ["3:65: token-proxy sets this field itself - leave it out"]),
    (f'{LOGIN}, headers = {{ A = "x", a = "y" }}', ["3:71: the same field twice: expected each only once"]),
    (
        f'{LOGIN}, headers = {{ A = "é" }}',
        ["3:62: expected the value of a header field: visible ASCII and spaces"],
    ),
    (
        f'{LOGIN}, headers = {{ A = "a\\r\\nB: c" }}',
        ["3:62: expected the value of a header field: visible ASCII and spaces"],
    ),
    (f'{LOGIN}, headers = {{ A = "" }}', ["3:62: an empty header field - leave it out"]),
    (f'{LOGIN}, headers = {{ A = "{{jtw}}" }}', [f"3:62: an unknown placeholder: {PLACEHOLDER}"]),
    (f'{LOGIN}, json = {{ a = {{ b = ["{{x}}"] }} }}', [f"3:66: an unknown placeholder: {PLACEHOLDER}"]),
    (f'{LOGIN}, json = {{ "{{jwt}}" = 1 }}', ["3:65: a placeholder in a name: expected it in a value"]),
    (
        f"{LOGIN}, json = {{ a = 2025-01-01 }}",
        ["3:59: JSON has no such value: expected a string, a number, true, false, a list or a table"],
    ),
    (
        f"{LOGIN}, json = {{ a = [inf] }}",
        ["3:60: JSON has no such value: expected a string, a number, true, false, a list or a table"],
    ),
    (f"{LOGIN}, form = {{ a = 1 }}", ['3:59: expected a string: "…", or a list of strings']),
    (f'{LOGIN}, form = {{ a = ["{{x}}"] }}', [f"3:59: an unknown placeholder: {PLACEHOLDER}"]),
    (f'{LOGIN}, form = "a=b"', ['3:53: expected a table: { name = "value" }']),
    (
        f'{LOGIN}, form = {{ a = "{{jwt}}" }}',
        ["3:59: there is no jwt to put here - add jwt = { alg = …, key = …, claims = … }"],
    ),
    (
        f'{LOGIN}, form = {{ a = "{{secret.B}}" }}',
        ["3:59: there is no secret 'B' - add secrets = { B = { … } }"],
    ),
    (
        f'{LOGIN}, json = {{ a = "{{step1.b}}" }}',
        ["3:59: only the responses to earlier steps are known in step 1: expected none in the first"],
    ),
]


@pytest.mark.parametrize(("text", "expected"), FAULTS)
def test_a_fault_in_a_step(complaints: Complaints, text: str, expected: list[str]) -> None:
    assert complaints(step(text), ENVIRON) == expected


JWT = '{ alg = "RS256", key = { env = "PEM" }, claims = { iss = "1" } }'
TABLES = [  # lines from the third on, their faults
    (
        (),
        [
            '1:1: response is missing - grant = "request" requires it',
            '1:1: steps is missing - grant = "request" requires it',
        ],
    ),
    (("steps = []", RESPONSE), ['1:1: steps is missing - grant = "request" requires it']),
    (
        ("steps = [" + '{ url = "https://a.example/" },' * 9 + "]", RESPONSE),
        ["3:9: too many steps: expected at most 8"],
    ),
    (
        (ONE, "response = { }"),
        [
            '1:1: response is missing - grant = "request" requires it',
            "4:12: token is missing - this table requires it",
        ],
    ),
    (
        (ONE, 'response = { token = "a..b" }'),
        ["4:22: expected a dotted path into the response: token, or data.items.0.token"],
    ),
    (
        (ONE, 'response = { token = "a", expires_at = "b", expires_in = "c" }'),
        ["4:58: expires_at is set too: expected only one of the two"],
    ),
    ((ONE, RESPONSE, 'client_id = "x"'), ['5:1: grant = "request" has no client - leave the key out']),
    (
        (ONE, RESPONSE, 'issuer = "https://a.example"'),
        ['5:1: grant = "request" has no authorization server - leave the key out'],
    ),
    (
        (ONE, RESPONSE, 'scopes = ["a"]'),
        ['5:1: grant = "request" has no authorization server - leave the key out'],
    ),
    (
        (ONE, RESPONSE, 'secrets = { A = { env = "A" } }'),
        ["5:13: no step uses it: expected {secret.A} in a value"],
    ),
    ((ONE, RESPONSE, f"jwt = {JWT}"), ["5:1: no step uses it: expected {jwt} in a value"]),
]


@pytest.mark.parametrize(("lines", "expected"), TABLES)
def test_a_fault_in_the_table(complaints: Complaints, lines: tuple[str, ...], expected: list[str]) -> None:
    assert complaints(table(*lines), ENVIRON) == expected


USES = 'steps = [{ url = "https://a.example/", headers = { A = "{jwt}" } }]'
JWTS = [
    ('{ alg = "none", key = { env = "PEM" } }', "5:15: expected "),
    ('{ alg = "RS256" }', "5:7: key is missing - this table requires it"),
    (
        '{ alg = "RS256", key = { env = "A" } }',
        "5:30: not a private key: expected a private key: PEM without a password",
    ),
    (
        '{ alg = "RS256", key = { env = "P256" } }',
        "5:30: this key can't sign with RS256: expected alg = ES256",
    ),
    (
        '{ alg = "HS256", key = { env = "A" }, claims = { iat = 1 } }',
        "5:62: token-proxy adds this claim itself",
    ),
    (
        '{ alg = "HS256", key = { env = "A" }, claims = { iss = "{jwt}" } }',
        "5:62: only {secret.NAME} is known here",
    ),
    (
        '{ alg = "HS256", key = { env = "A" }, claims = { iss = "{secret.X}" } }',
        "5:62: there is no secret 'X'",
    ),
    (
        '{ alg = "HS256", key = { env = "A" }, claims = { a = { b = 2025-01-01 } } }',
        "5:66: JSON has no such value",
    ),
    ('{ alg = "HS256", key = { env = "A" }, lifetime = 0 }', "5:56: too small: expected more than 0"),
    ('{ alg = "HS256", key = { env = "A" }, lifetime = 86401 }', "5:56: too large: expected at most 86400"),
    ('{ alg = "HS256", key = { env = "A" }, kid = "x" }', "5:45: unknown key 'kid'"),
]


@pytest.mark.parametrize(("jwt", "start"), JWTS)
def test_a_fault_in_the_jwt(complaints: Complaints, jwt: str, start: str) -> None:
    found = complaints(table(USES, RESPONSE, f"jwt = {jwt}"), ENVIRON)
    assert [fault[: len(start)] for fault in found] == [start]


@pytest.mark.parametrize("key", ["steps = []", RESPONSE, f"jwt = {JWT}", 'secrets = { A = "x" }'])
def test_the_keys_are_faults_for_other_grants(complaints: Complaints, key: str) -> None:
    text = f'[credentials.x]\nissuer = "https://a.example"\nclient_id = "x"\n{key}\n{ROUTE}'
    assert complaints(text, ENVIRON) == [
        '4:1: grant = "authorization_code" describes no requests - leave the key out'
    ]


def test_a_secret_has_no_line_break(complaints: Complaints) -> None:
    text = step(f'{LOGIN}, form = {{ a = "{{secret.B}}" }}', 'secrets = { B = { env = "LINES" } }')
    assert complaints(text, ENVIRON) == ["5:17: a line break or NUL in the secret: expected one line of text"]


def test_a_later_step_and_one_that_does_not_exist(complaints: Complaints) -> None:
    lines = (
        "steps = [",
        ' { url = "https://a.example/" },',
        ' { url = "https://a.example/", form = { a = "{step2.x}", b = "{step1.x}", c = "{step3.x}" } },',
        "]",
    )
    only = "only the responses to earlier steps are known in step 2: expected {step1.…} or an earlier one"
    assert complaints(table(*lines, RESPONSE), ENVIRON) == [f"5:45: {only}", f"5:79: {only}"]


def test_every_fault_is_found_at_once(complaints: Complaints) -> None:
    text = step('url = "http://a.example/{x}", method = "X", headers = { A = "{secret.B}", Host = "y" }')
    assert len(complaints(text, ENVIRON)) == 4


def test_a_fault_shows_no_secret(load_text: Load) -> None:
    text = step(
        f'{LOGIN}, headers = {{ Api-Key = "hunter2", B = "{{x}}" }}, form = {{ password = "hunter2" }}'
    )
    with pytest.raises(Exception, match="placeholder") as caught:
        load_text(text, ENVIRON)
    assert "hunter2" not in str(caught.value)


def test_secrets_in_the_file_itself_are_warned_about(load_text: Load) -> None:
    text = step(
        f'{LOGIN}, headers = {{ Api-Key = "abc", B = "x" }}, form = {{ password = "{{secret.B}}" }}',
        'secrets = { B = "hunter2" }',
    )
    loaded = load_text(text, ENVIRON)
    assert [(fault.line, fault.column) for fault in loaded.warnings] == [(3, 68), (5, 17)]


def test_the_example_of_the_contract_is_valid(load_text: Load) -> None:
    text = table(
        'steps = [ { method = "POST", url = "https://api.github.com/app/installations/1/access_tokens", '
        'headers = { Authorization = "Bearer {jwt}" }, json = { } } ]',
        'jwt = { alg = "RS256", key = { env = "PEM" }, claims = { iss = "12345" }, lifetime = 540 }',
        'response = { token = "token", expires_at = "expires_at" }',
    )
    credential = load_text(text, ENVIRON).config.credentials["x"]
    assert (str(credential.steps[0].url), credential.client_id) == (
        "https://api.github.com/app/installations/1/access_tokens",
        "",
    )


def test_without_secrets_nothing_that_it_refers_to_need_exist(tmp_path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        table(
            USES,
            RESPONSE,
            'jwt = { alg = "ES384", key = { file = "gone.pem" }, claims = { a = "{secret.S}" } }',
        ).replace(RESPONSE, f'{RESPONSE}\nsecrets = {{ S = {{ env = "NOT_SET" }} }}')
    )
    assert load(file, {}, secrets=False).config.credentials["x"].jwt is not None
