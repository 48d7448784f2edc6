"""What a credential must hold depends on what its grant asks for: the grant `static` has no client at all."""

import pytest

from proxy.config import credential_checks
from proxy.config.credential import Credential
from proxy.config.grants import Requirements
from proxy.oauth.binding import client_of, is_same_client, server_of

from .conftest import Complaints, Load

STATIC = '[credentials.key]\ngrant = "static"\nvalue = { env = "KEY" }\n'
KEY = {"KEY": "k-1"}
NO_SERVER = 'grant = "static" has no authorization server - leave the key out'
NO_CLIENT = 'grant = "static" has no client - leave the key out'
NO_REQUESTS = 'grant = "static" requests no tokens - leave the key out'
LINES = [  # on line 4
    ("required = false", []),
    ('issuer = "https://a.example"', [NO_SERVER]),
    ('token_endpoint = "https://a.example"', [NO_SERVER]),
    ('scopes = ["api"]', [NO_SERVER]),
    ('token_types = ["Bearer"]', [NO_SERVER]),
    ('client_id = "app"', [NO_CLIENT]),
    ('client_secret = { env = "KEY" }', [NO_CLIENT]),
    ("client_secret_expires = 2030-01-31", [NO_CLIENT]),
    ("refresh_at = 0.5", [NO_REQUESTS]),
    ("refresh_token_idle = 5000", [NO_REQUESTS]),
    ("keep_alive = false", [NO_REQUESTS]),
    ('proxy = "http://egress:3128"', [NO_REQUESTS]),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_a_key_that_means_nothing_for_the_grant(
    line: str, expected: list[str], complaints: Complaints
) -> None:
    assert complaints(STATIC + line, KEY) == [f"4:1: {sentence}" for sentence in expected]


def test_a_value_is_for_the_grant_static_alone(complaints: Complaints) -> None:
    (missing,) = complaints('[credentials.key]\ngrant = "static"')
    assert missing == '1:1: value is missing - grant = "static" attaches it'
    oauth = '[credentials.x]\nclient_id = "app"\nissuer = "https://a.example"\nvalue = { env = "KEY" }'
    assert complaints(oauth, KEY) == [
        '4:9: only for grant = "static" - change the grant, or leave the key out'
    ]


@pytest.mark.parametrize("value", ["a\nb", "a\r", " a", "a ", "ä", "a\x00", "\x7f"])
def test_a_value_is_one_that_a_field_can_hold(value: str, complaints: Complaints) -> None:
    sentence = "expected a field's value: visible ASCII characters, with spaces between them only"
    assert complaints(STATIC, {"KEY": value}) == [f"3:9: {sentence}"]


def test_a_value_in_the_file_itself_is_warned_about_and_masked(
    load_text: Load, complaints: Complaints
) -> None:
    loaded = load_text('[credentials.key]\ngrant = "static"\nvalue = "hunter2"')
    (warning,) = loaded.warnings
    assert (warning.line, warning.column, "hunter2" in warning.source) == (3, 9, False)
    assert "a secret in the configuration file itself" in warning.message


def test_a_grant_without_a_client_needs_neither_client_nor_server(load_text: Load) -> None:
    credential = load_text(STATIC, KEY).config.credentials["key"]
    assert (credential.client_id, credential.issuer, credential.token_endpoint) == ("", None, None)
    assert server_of(credential) == "credentials.key"


def test_a_grant_may_leave_the_client_to_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    either = Requirements(client="optional", server="optional")
    monkeypatch.setattr(credential_checks, "requirements_of", lambda _grant: either)
    assert Credential(grant="client_credentials").client_id == ""
    given = Credential(grant="client_credentials", client_id="app", token_endpoint="https://a.example")
    assert given.client_id == "app"


def test_without_a_server_nothing_is_shared_by_two_credentials(load_text: Load) -> None:
    text = STATIC + '[credentials.other]\ngrant = "static"\nvalue = { env = "KEY" }\n'
    one, other = load_text(text, KEY).config.credentials.values()
    assert server_of(one) != server_of(other)
    assert client_of(one) != client_of(other)
    assert not is_same_client(one, other)
