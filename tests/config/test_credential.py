"""[credentials.NAME]: each fault, with its line and column."""

from typing import get_args

import pytest

from proxy.config.credential import ClientAuth, Grant

from .conftest import NOT_REFERENCE, Complaints, Load, one_of

MINIMAL = 'client_id = "app"\nissuer = "https://login.example"\n'
NOT_URL = "expected a URL: https://host/path"
NOT_PROXY = "expected an egress proxy: http://host:port or http://user:password@host:port"
TLS_TO_PROXY = "TLS to the egress proxy itself is not supported: expected http://host:port"
OURS = "token-proxy sends this parameter itself - leave it out"
NO_ISSUER = "issuer is missing - or token_endpoint, where there is no discovery"

NOT_GRANT = one_of(get_args(Grant))
NOT_AUTH = one_of(get_args(ClientAuth))
WHOLE = [  # the whole table, from line 2
    ("", ["1:1: client_id is missing - this table requires it", f"1:1: {NO_ISSUER}"]),
    ('client_id = "app"', [f"1:1: {NO_ISSUER}"]),
    (
        'client_id = "app"\ntoken_endpoint = "https://a.example"',
        ["1:1: authorization_endpoint is missing - or issuer, where there is discovery"],
    ),
    (
        'client_id = "app"\ngrant = "device_code"\ntoken_endpoint = "https://a.example"',
        ["1:1: device_authorization_endpoint is missing - or issuer, where there is discovery"],
    ),
    ('client_id = "app"\ngrant = "client_credentials"\nclient_auth = "none"', [f"1:1: {NO_ISSUER}"]),
    (
        (
            'client_id = "app"\ntoken_endpoint = "https://a.example"\nauthorization_endpoint = "https://a.example"\n'
            "par = true"
        ),
        ["1:1: pushed_authorization_request_endpoint is missing - or issuer, where there is discovery"],
    ),
    (
        'client_id = "app"\nissuer = "login.example"',
        [f'3:10: {NOT_URL} - did you mean "https://login.example"?'],
    ),
    *(
        (
            f'client_id = "app"\nissuer = "https://login.example{path}"',
            [
                f"3:10: this is the discovery document: expected the issuer itself, https://login.example{issuer}"
            ],
        )
        for path, issuer in (
            ("/.well-known/openid-configuration", ""),
            ("/t/.well-known/x", "/t"),
            ("/.well-known/x/t/u", "/t/u"),
        )
    ),
]
NOT_RESOURCE = "expected an absolute URI without a fragment, like https://api.example.com"
NOT_RESOURCES = ["", "api", "/api", "https:", "https://api.example/#x", "https://api.example/a b", "urn:é"]
LINES = [  # added on line 4 to a minimal credential
    (
        'issuer2 = "https://login.example"',
        ["4:1: unknown key 'issuer2' - did you mean 'issuer'?"],
    ),
    ('provider = "salesforce"', ["4:1: provider is not in this version of token-proxy - leave it out"]),
    (
        'device_authorization_endpoint = "http://login.example"',
        ["4:33: http would expose secrets to the network: expected https (http on loopback only)"],
    ),
    (
        (
            'grant = "client_credentials"\nclient_auth = "none"\n'
            'device_authorization_endpoint = "https://login.example"'
        ),
        ['6:33: grant = "client_credentials" has no logins - leave the key out'],
    ),
    ('pkce = "no"', ["4:8: expected true or false"]),
    ('token_types = "Bearer"', ['4:15: expected a list: token_types = ["…"]']),
    ("token_types = []", ["4:15: an empty list accepts no token - expected a type, or no token_types"]),
    ('token_types = ["a b"]', ["4:16: expected a token type: one word, like Bearer"]),
    ('grant = "implicit"', [f'4:9: {NOT_GRANT} - did you mean "authorization_code"?']),
    (
        'grant = "refresh_token"',
        ['1:1: refresh_token is missing - grant = "refresh_token" starts from one'],
    ),
    (
        'grant = "client_credentials"',
        ['1:1: client_secret is missing - grant = "client_credentials" needs one, or client_auth = "none"'],
    ),
    (
        'refresh_token = { env = "SEED" }',
        ['4:17: only for grant = "refresh_token" - change the grant, or leave the key out'],
    ),
    (
        'client_auth = "client_secret_post"',
        ['1:1: client_secret is missing - client_auth = "client_secret_post" sends one'],
    ),
    (
        'client_secret = { env = "SEED" }\nclient_auth = "none"',
        ["5:15: none sends no secret - choose another client_auth, or leave client_secret out"],
    ),
    (
        'revocation_endpoint = "http://login.example"',
        ["4:23: http would expose secrets to the network: expected https (http on loopback only)"],
    ),
    ('revocation_endpoint = "https://login.example:x"', [f"4:23: {NOT_URL}"]),
    (
        'revocation_endpoint = "https://me:pw@login.example"',
        ["4:23: user and password are not allowed in this URL: expected https://host/path"],
    ),
    (
        'revocation_endpoint = "https://login.example#x"',
        ["4:23: a fragment is not allowed in this URL: expected https://host/path"],
    ),
    ('scopes = "api"', ['4:10: expected a list: scopes = ["api"]']),
    ('scopes = ["api", "two words"]', ['4:18: expected one scope per item: ["api", "offline_access"]']),
    ('scopes = ["line\\nbreak"]', ['4:11: expected one scope per item: ["api", "offline_access"]']),
    ('authorize_params = { state = "x" }', [f"4:22: {OURS}"]),
    ('token_params.grant_type = "x"', [f"4:14: {OURS}"]),
    ("token_params = { max_age = 5 }", ['4:28: expected a string: "…"']),
    ("token_params = { resource = ['a', 5] }", ['4:35: expected a string: "…"']),
    ("token_params = 'audience'", ["4:16: expected a table: [ … ] on a line of its own, or { … }"]),
    ('resource = "https://api.example"', ['4:12: expected a list: resource = ["…"]']),
    *[(f'resource = ["{uri}"]', [f"4:13: {NOT_RESOURCE}"]) for uri in NOT_RESOURCES],
    (
        'token_params = { resource = "urn:a" }\nresource = ["urn:a"]',
        ["5:12: token_params has a resource too: expected only one of the two"],
    ),
    (
        'authorize_params = { resource = "urn:a" }\nresource = ["urn:a"]',
        ["5:12: authorize_params has a resource too: expected only one of the two"],
    ),
    ("refresh_at = 0.1", ["4:14: too small: expected more than 0.1"]),
    ("refresh_at = 1", ["4:14: too large: expected at most 0.95"]),
    ("refresh_at = nan", ["4:14: expected a finite number"]),
    ("refresh_window = 5", ["4:18: too small: expected more than 5"]),
    ("refresh_window = '30'", ["4:18: expected a number, without quotes: 30"]),
    (
        "refresh_window = 30\nrefresh_at = 0.5",
        ["4:18: refresh_at is set too: expected only one of the two"],
    ),
    (
        "refresh_window = 600\naccess_token_lifetime = 600",
        ["4:18: longer than the token lives: expected less than access_token_lifetime"],
    ),
    ("client_secret_expires = '2027-03-01'", ["4:25: expected a date without quotes: 2027-03-01"]),
    ("client_secret_expires = 1803859200", ["4:25: expected a date without quotes: 2027-03-01"]),
    (
        "client_secret_expires = 2027-03-01T08:00:00",
        ["4:25: expected an offset behind the time, or a date alone: 2027-03-01"],
    ),
    ("access_token_lifetime = 0", ["4:25: too small: expected more than 0"]),
    ("access_token_lifetime = 900000000", ["4:25: too large: expected at most 315360000"]),
    (
        "refresh_token_idle = 600\nrefresh_token_lifetime = 60",
        ["5:26: shorter than refresh_token_idle: expected at least as long"],
    ),
    (
        'grant = "client_credentials"\nclient_auth = "none"\nrefresh_token_idle = 600',
        ['6:22: grant = "client_credentials" has no refresh tokens - leave the key out'],
    ),
    (
        'grant = "client_credentials"\nclient_auth = "none"\nrefresh_token_lifetime = 600',
        ['6:26: grant = "client_credentials" has no refresh tokens - leave the key out'],
    ),
    ("keep_alive = 3600", ["4:14: expected true or false"]),
    (
        'introspection_endpoint = "http://login.example"',
        ["4:26: http would expose secrets to the network: expected https (http on loopback only)"],
    ),
    ("required = 'yes'", ["4:12: expected true or false"]),
    ('basic_encoding = "utf-8"', ['4:18: expected "rfc6749" or "raw"']),
    ("client_secret = 5", [f"4:17: {NOT_REFERENCE}"]),
    ('client_secret = { evn = "SEED" }', [f"4:17: {NOT_REFERENCE}"]),
    ('client_secret = { env = "SEED", file = "x" }', [f"4:17: {NOT_REFERENCE}"]),
    ("client_secret = { env = 5 }", [f"4:17: {NOT_REFERENCE}"]),
    (
        'client_secret = { keyring = "x" }',
        ['4:17: expected { keyring = "service/name" }'],
    ),
    ('proxy = "https://egress:3128"', [f"4:9: {TLS_TO_PROXY}"]),
    ('proxy = "egress:3128"', [f"4:9: {NOT_PROXY}"]),
    (
        'proxy = { env = "NOTHING" }',
        ["4:9: the environment variable NOTHING is not set - set it before token-proxy starts"],
    ),
    ('par = "yes"', ["4:7: expected true or false"]),
    (
        'grant = "client_credentials"\nclient_auth = "none"\npar = true',
        ['6:7: grant = "client_credentials" has no logins in a browser - leave the key out'],
    ),
    ("proxy = 3128", [f"4:9: {NOT_REFERENCE}"]),
    (
        'tls = { ca = "/", proxy = "http://egress:3128" }',
        [
            "4:14: there is no file / - check the name",
            "4:19: unknown key 'proxy' - it is a key of the table around this one",
        ],
    ),
]
NAMES = [
    ("crm", True),
    ("0-crm_2", True),
    ("a" * 63, True),
    ("a" * 64, False),
    ("CRM", False),
    ("-crm", False),
    ("c r m", False),
    ("crm\\n", False),
    ("", False),
]
ENDPOINTS = [  # where http is let in
    ("https://login.example/x?y=z", True),
    ("http://127.0.0.1:8000", True),
    ("http://[::1]:8000", True),
    ("http://localhost:8000", True),
    ("http://localhost.example", False),
    ("http://10.0.0.1", False),
    ("http://127.0.0.1.example", False),
]
AUTHENTICATIONS = [  # client_secret, client_auth, what follows
    ('client_secret = "s"', "", "client_secret_basic"),
    ('client_secret = "s"', 'client_auth = "client_secret_post"', "client_secret_post"),
    ("", "", "none"),
    ("", 'client_auth = "none"', "none"),
]


@pytest.mark.parametrize(("lines", "expected"), WHOLE)
def test_a_credential_that_lacks_something(lines: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(f"[credentials.crm]\n{lines}\n") == expected


@pytest.mark.parametrize(("lines", "expected"), LINES)
def test_a_fault_of_a_credential(lines: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(f"[credentials.crm]\n{MINIMAL}{lines}\n", {"SEED": "s"}) == expected


def test_a_credential_is_named_by_its_table(complaints: Complaints, load_text: Load) -> None:
    text = f"[credentials.crm]\n{MINIMAL}"
    assert load_text(text).config.credentials["crm"].name == "crm"
    (complaint,) = complaints(text + 'name = "other"')
    assert complaint.startswith("4:1: unknown key 'name' - ")


def test_a_credential_named_like_another_table_has_its_own_keys(complaints: Complaints) -> None:
    (complaint,) = complaints(f"[credentials.tls]\n{MINIMAL}xyz = 1")
    assert complaint.startswith(
        "4:1: unknown key 'xyz' - known here: issuer, client_id, client_secret, scopes, grant and others"
    )


@pytest.mark.parametrize(("name", "fits"), NAMES)
def test_what_a_credential_may_be_called(name: str, fits: bool, complaints: Complaints) -> None:
    found = complaints(f'[credentials."{name}"]\n{MINIMAL}')
    wrong = "1:14: expected a name of at most 63 characters (a-z, 0-9, _ and -)"
    assert [each.partition(" - did you mean")[0] for each in found] == ([] if fits else [wrong])


@pytest.mark.parametrize(("url", "fits"), ENDPOINTS)
def test_secrets_go_over_https_but_on_this_machine(url: str, fits: bool, complaints: Complaints) -> None:
    found = complaints(f'[credentials.crm]\n{MINIMAL}token_endpoint = "{url}"')
    assert (found == []) == fits


@pytest.mark.parametrize(("secret", "auth", "expected"), AUTHENTICATIONS)
def test_the_secret_suggests_how_it_is_sent(secret: str, auth: str, expected: str, load_text: Load) -> None:
    config = load_text(f"[credentials.crm]\n{MINIMAL}{secret}\n{auth}").config
    assert config.credentials["crm"].authentication == expected


def test_an_issuer_is_kept_to_the_letter(load_text: Load) -> None:
    text = '[credentials.crm]\nclient_id = "app"\nissuer = "https://Login.example/"'
    assert load_text(text).config.credentials["crm"].issuer == "https://Login.example/"


def test_parameters_are_texts_or_lists_of_texts(load_text: Load) -> None:
    text = f'[credentials.crm]\n{MINIMAL}token_params = {{ audience = "a", resource = ["b", "c"] }}'
    params = load_text(text).config.credentials["crm"].token_params
    assert params == {"audience": "a", "resource": ["b", "c"]}


@pytest.mark.parametrize("text", ["2027-03-01", "2027-03-01T00:00:00Z", "2027-03-01T02:00:00+02:00"])
def test_the_end_of_a_client_secret_is_a_date(text: str, load_text: Load) -> None:
    found = load_text(f"[credentials.crm]\n{MINIMAL}client_secret_expires = {text}").config
    assert found.credentials["crm"].client_secret_expires == 1803859200.0


def test_how_long_tokens_live_is_for_the_server_to_say_where_nothing_is_configured(load_text: Load) -> None:
    found = load_text(f"[credentials.crm]\n{MINIMAL}refresh_window = 30\nrefresh_token_idle = 5184000").config
    crm = found.credentials["crm"]
    assert (crm.access_token_lifetime, crm.refresh_token_lifetime, crm.keep_alive) == (None, None, True)
    assert (crm.refresh_window, crm.refresh_token_idle) == (30, 5184000)


def test_a_login_without_pkce_is_warned_about(load_text: Load) -> None:
    text = f"[credentials.crm]\n{MINIMAL}"
    assert load_text(text).config.credentials["crm"].pkce
    assert load_text(text + "pkce = true").warnings == []
    loaded = load_text(text + "pkce = false")
    assert not loaded.config.credentials["crm"].pkce
    (warning,) = loaded.warnings
    assert (warning.line, warning.column) == (4, 8)
    assert (
        warning.message
        == "without PKCE a stolen code can be used - expected only where the server refuses it"
    )
