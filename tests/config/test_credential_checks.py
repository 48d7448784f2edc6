"""What a credential must hold depends on what its grant asks for: also for a grant that has no client."""

import pytest
from pydantic import ValidationError

from proxy.config import credential_checks
from proxy.config.credential import Credential
from proxy.config.grants import Requirements
from proxy.oauth.binding import client_of, is_same_client, server_of

NO_CLIENT = Requirements(client="none", server="none")
EITHER = Requirements(client="optional", server="optional")


def ask(monkeypatch: pytest.MonkeyPatch, requirements: Requirements) -> None:
    monkeypatch.setattr(credential_checks, "requirements_of", lambda _grant: requirements)


def faults(**keys: str) -> list[str]:
    try:
        Credential(grant="client_credentials", **keys)  # type: ignore[arg-type]
    except ValidationError as error:
        return [each["msg"].removeprefix("Value error, ") for each in error.errors()]
    return []


def test_a_grant_without_a_client_needs_neither_client_nor_server(monkeypatch: pytest.MonkeyPatch) -> None:
    ask(monkeypatch, NO_CLIENT)
    assert faults() == []
    assert Credential(grant="client_credentials").client_id == ""
    sentence = 'grant = "client_credentials" has no {} - leave the key out'
    assert faults(client_id="app") == [sentence.format("client")]
    assert faults(token_endpoint="https://a.example") == [sentence.format("authorization server")]


def test_a_grant_may_leave_the_client_to_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    ask(monkeypatch, EITHER)
    assert faults() == faults(client_id="app") == faults(token_endpoint="https://a.example") == []
    assert faults(client_id="") == ["empty or unprintable: expected a printable string"]


def test_without_a_server_nothing_is_shared_by_two_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    ask(monkeypatch, NO_CLIENT)
    one, other = (Credential(grant="client_credentials").model_copy(update={"name": name}) for name in "ab")
    assert server_of(one) != server_of(other)
    assert client_of(one) != client_of(other)
    assert not is_same_client(one, other)
