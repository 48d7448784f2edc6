"""The keys of the grants jwt_bearer, password and token_exchange: each fault, with its line and column."""

import json
import re

import pytest

from proxy.config.grant_keys import read_assertion_key
from tests.config.conftest import Complaints, Load
from tests.fakes import signing

JWT = '[credentials.crm]\ngrant = "jwt_bearer"\nissuer = "https://login.example"\n'
PASSWORD = '[credentials.crm]\ngrant = "password"\nissuer = "https://login.example"\nclient_id = "web"\n'
EXCHANGE = (
    '[credentials.crm]\ngrant = "token_exchange"\nissuer = "https://login.example"\nclient_id = "web"\n'
    'client_secret = { env = "SEED" }\n'
)
OWN = EXCHANGE + 'subject_token = { header = "Authorization" }\n'
ROUTE = '[[routes]]\npath = "/crm"\nupstream = "https://api.example"\ncredential = "crm"\n'
OTHER = '[credentials.crm]\ngrant = "refresh_token"\nissuer = "https://login.example"\nclient_id = "web"\n'
OTHER += 'refresh_token = { env = "SEED" }\n'
NO_KEY = (
    '1:1: key is missing - { file = "service-account.json" } or a PEM file; or assertion, a file with one '
    "that is signed already"
)
NO_USE = 'grant = "refresh_token" does not use this key - leave it out'
OUR_CLAIM = "token-proxy sets this claim itself - leave it out"


def service_account(**changes: object) -> str:
    document = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "kid-1",
        "private_key": signing.pem("rsa"),
        "client_email": "robot@p.iam.gserviceaccount.com",
        "client_id": "1234567890",
        "token_uri": "https://oauth2.googleapis.com/token",
        **changes,
    }
    return json.dumps({name: value for name, value in document.items() if value is not None})


@pytest.fixture
def files(tmp_path):
    (tmp_path / "sa.json").write_text(service_account())
    (tmp_path / "key.pem").write_text(signing.pem("p256"))
    (tmp_path / "odd.json").write_text('{"type": "authorized_user", "private_key": "x"}')
    (tmp_path / "http.json").write_text(service_account(token_uri="http://oauth2.example/token"))
    (tmp_path / "token").write_text("a.b.c")


FAULTS = [
    (JWT, [NO_KEY]),
    (
        JWT + 'key = { file = "key.pem" }',
        ["1:1: client_id is missing - or the claim iss: who the assertion is from"],
    ),
    (
        JWT + 'key = { file = "none.json" }',
        ["4:7: {folder}/none.json can't be read (no such file or directory)"],
    ),
    (JWT + 'key = { file = "odd.json" }', ["4:7: not a service-account key file: expected client_email"]),
    (JWT + 'key = { file = "http.json" }', ["4:7: its token_uri is no URL for secrets"]),
    (JWT + 'key = { file = "token" }', ["4:7: not a private key: expected a private key"]),
    (
        JWT + 'key = { file = "sa.json" }\nassertion = { file = "token" }',
        ["5:13: key or claims are set too: expected a file of ready assertions, or a key"],
    ),
    (JWT + 'assertion = "a.b.c"', ['4:13: expected a file that the platform writes: { file = "name" }']),
    (
        JWT + 'assertion = { env = "SEED" }',
        ['4:13: expected a file that the platform writes: { file = "name" }'],
    ),
    (JWT + 'assertion = { file = "none" }', ["4:13: there is no file {folder}/none - check the name"]),
    (JWT + 'key = { file = "sa.json" }\nclaims = { exp = 5 }', [f"5:12: {OUR_CLAIM}"]),
    (JWT + 'key = { file = "sa.json" }\nclaims.jti = "x"', [f"5:8: {OUR_CLAIM}"]),
    (
        JWT + 'key = { file = "sa.json" }\nclaims = { x = 2027-01-01 }',
        ["5:16: expected a string, a number, true, false, a list or a table of these"],
    ),
    (JWT + 'key = { file = "sa.json" }\nclaims = { x = inf }', ["5:16: expected a string, a number"]),
    (
        JWT + 'key = { file = "sa.json" }\nrefresh_token_idle = 60',
        ['5:22: grant = "jwt_bearer" has no refresh tokens'],
    ),
    (EXCHANGE, ['1:1: subject_token is missing - grant = "token_exchange" sends one']),
    (
        EXCHANGE + 'subject_token = "x"',
        ['6:17: expected { header = "Authorization" } or { file = "name" }'],
    ),
    (
        EXCHANGE + 'subject_token = { env = "SEED" }',
        ['6:17: expected { header = "Authorization" } or { file = "name" }'],
    ),
    (
        EXCHANGE + 'subject_token = { header = "a b" }',
        ["6:28: expected the name of a header field, like Token-Proxy-Account"],
    ),
    (EXCHANGE + 'subject_token = { header = "Host" }', ["6:28: this field is not the caller's to choose"]),
    (
        EXCHANGE + 'subject_token = { header = "Token-Proxy-Key" }',
        ["6:28: this field is not the caller's to choose"],
    ),
    (
        EXCHANGE + 'subject_token = { file = "none" }',
        ["6:17: there is no file {folder}/none - check the name"],
    ),
    (OWN + 'subject_token_type = "jwt"', ["7:22: expected the URI of a token type, like urn:ietf:params"]),
    (OWN + "refresh_token_idle = 60", ['7:22: grant = "token_exchange" has no refresh tokens']),
    (
        OWN + ROUTE + 'attach = { header = "X-Api-Key" }',
        ["11:1: unknown key 'attach'"],
    ),
    (
        OWN.replace("Authorization", "X-Own") + ROUTE + 'account = { header = "Account" }',
        ['11:11: grant = "token_exchange" has the account "default" only - leave account out'],
    ),
    (
        OWN + 'attach = { header = "X-Api-Key", scheme = "" }\n' + ROUTE + 'caller_authorization = "pass"\n'
        '[callers.a]\nkey = "tpk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"',
        ["12:24: the caller's Authorization is the subject_token of the credential"],
    ),
    (
        '[server]\nanyone = ["172.18.0.0/16"]\nlisten = "0.0.0.0:8080"\nplaintext = true\n' + OWN + ROUTE,
        ["14:14: beyond this machine tokens are exchanged only for callers: expected [callers.NAME]"],
    ),
    (
        OTHER + 'audience = "x"',
        ['6:12: grant = "refresh_token" does not use this key - did you mean token_params = '],
    ),
    (OTHER + 'subject_token = { header = "X" }', [f"6:17: {NO_USE}"]),
    (PASSWORD, ['1:1: password is missing - grant = "password" sends one', "1:1: username is missing"]),
    (PASSWORD + 'username = "ann"', ['1:1: password is missing - grant = "password" sends one']),
    (
        OTHER + 'username = "ann"',
        [f"6:12: {NO_USE}"],
    ),
    (
        OTHER + 'password = { env = "SEED" }',
        [f"6:12: {NO_USE}"],
    ),
    (OTHER + 'key = { file = "key.pem" }', [f"6:7: {NO_USE}"]),
    (OTHER + 'claims = { sub = "x" }', [f"6:10: {NO_USE}"]),
    (OTHER + 'assertion = { file = "token" }', [f"6:13: {NO_USE}"]),
]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("text", "expected"), FAULTS)
def test_a_fault(text: str, expected: list[str], complaints: Complaints, tmp_path) -> None:
    found = complaints(text + "\n", {"SEED": "s"})
    assert len(found) == len(expected)
    for complaint, start in zip(found, expected, strict=True):
        assert complaint.startswith(start.format(folder=tmp_path) if "{folder}" in start else start)


@pytest.mark.usefixtures("files")
def test_a_service_account_needs_nothing_else(load_text: Load) -> None:
    text = '[credentials.g]\ngrant = "jwt_bearer"\nkey = { file = "sa.json" }\nscopes = ["https://x/auth/drive"]\n'
    loaded = load_text(text)
    credential = loaded.config.credentials["g"]
    assert credential.token_endpoint == "https://oauth2.googleapis.com/token"
    assert credential.client_id == ""
    assert credential.principal == "robot@p.iam.gserviceaccount.com"
    assert (credential.key.signing.kid, credential.key.signing.algorithms[0]) == ("kid-1", "RS256")
    assert loaded.warnings == []


@pytest.mark.usefixtures("files")
def test_whom_it_acts_for_is_part_of_the_principal(load_text: Load) -> None:
    text = '[credentials.g]\ngrant = "jwt_bearer"\nkey = { file = "sa.json" }\nclaims.sub = "ann@p.example"\n'
    credential = load_text(text).config.credentials["g"]
    assert credential.principal == "robot@p.iam.gserviceaccount.com ann@p.example"


@pytest.mark.usefixtures("files")
def test_an_endpoint_or_issuer_of_ones_own_wins_over_the_file(load_text: Load) -> None:
    text = '[credentials.g]\ngrant = "jwt_bearer"\nkey = { file = "sa.json" }\n'
    by_hand = load_text(text + 'token_endpoint = "https://mine.example/t"\n').config.credentials["g"]
    assert by_hand.token_endpoint == "https://mine.example/t"
    discovered = load_text(text + 'issuer = "https://mine.example"\n').config.credentials["g"]
    assert discovered.token_endpoint is None


def test_without_secrets_the_files_need_not_be_there(tmp_path) -> None:
    from proxy.config.load import load

    file = tmp_path / "config.toml"
    file.write_text(
        '[credentials.g]\ngrant = "jwt_bearer"\nkey = { file = "nowhere.json" }\n'
        '[credentials.h]\ngrant = "jwt_bearer"\nissuer = "https://a.example"\nassertion = { file = "none" }\n'
    )
    assert set(load(file, secrets=False).config.credentials) == {"g", "h"}


def test_the_password_grant_is_warned_about(load_text: Load) -> None:
    loaded = load_text(PASSWORD + 'username = "ann"\npassword = { env = "SEED" }\n', {"SEED": "s"})
    (warning,) = loaded.warnings
    assert (warning.line, warning.column) == (2, 9)
    assert "this program must know a person's password" in warning.message
    assert loaded.config.credentials["crm"].principal == "web ann"


def test_a_secret_in_the_file_itself_is_warned_about_and_masked(load_text: Load) -> None:
    loaded = load_text(PASSWORD + 'username = "ann"\npassword = "hunter2"\n')
    assert any("a secret in the configuration file itself" in each.message for each in loaded.warnings)
    assert all("hunter2" not in each.source for each in loaded.warnings)
    assert "hunter2" not in repr(loaded.config)


@pytest.mark.parametrize(
    "changes", [{"client_email": None}, {"private_key": 5}, {"token_uri": None}, {"private_key": "x"}]
)
def test_a_broken_service_account_file_says_nothing_of_its_key(changes):
    text = service_account(**changes)
    with pytest.raises(ValueError, match="expected") as caught:
        read_assertion_key(text)
    assert not re.search("BEGIN|robot@", str(caught.value))


def test_a_key_is_not_shown():
    key = read_assertion_key(service_account())
    assert str(key) == "***"
    assert "BEGIN" not in repr(key)
