"""Values that come from the environment or from files."""

from pathlib import Path

import pytest

from proxy.secret import Secret

from .conftest import Complaints, Load

CREDENTIAL = '[credentials.crm]\nclient_id = "app"\nissuer = "https://login.example"\n'
FILES = [  # content, the secret
    (b"s3cret", "s3cret"),
    (b"s3cret\n", "s3cret"),
    (b"s3cret\r\n", "s3cret"),
    (b"s3cret\n\n", "s3cret\n"),
    (b" s3cret ", " s3cret "),
    (" sécret".encode(), " sécret"),
]
BAD_FILES = [
    (b"", "{file} is empty: expected the secret"),
    (b"\n", "{file} is empty: expected the secret"),
    (b"\xff\xfe", "{file} is not UTF-8: expected the secret as text"),
    (b"x" * 65537, "{file} is too large: expected nothing but the secret"),
]
BAD_REFERENCES = [
    ('{ env = "UNSET" }', "the environment variable UNSET is not set - set it before token-proxy starts"),
    ('{ env = "EMPTY" }', "the environment variable EMPTY is empty - set it before token-proxy starts"),
    ('{ env = "ODD" }', "the environment variable ODD is not UTF-8: expected UTF-8 text"),
    ('{ file = "" }', "expected the path of a file"),
    ('{ file = "a\\u0000b" }', "expected the path of a file"),
    (
        '{ env = "${CRM_SECRET}" }',
        'not the name of an environment variable: expected { env = "CRM_SECRET" }',
    ),
    ('{ file = "~nobody-of-that-name/x" }', "~ has no home directory here: expected an absolute path"),
]
LITERAL = 'a secret in the configuration file itself - use { env = "NAME" } or { file = "name" }'


@pytest.mark.parametrize(("content", "secret"), FILES)
def test_one_newline_is_stripped_from_a_secret_file(
    content: bytes, secret: str, load_text: Load, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(content)
    config = load_text(CREDENTIAL + 'client_secret = { file = "secret" }').config
    assert config.credentials["crm"].client_secret == Secret(secret)


@pytest.mark.parametrize(("content", "expected"), BAD_FILES)
def test_a_file_without_a_secret(
    content: bytes, expected: str, complaints: Complaints, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(content)
    found = complaints(CREDENTIAL + 'client_secret = { file = "secret" }')
    assert found == ["4:17: " + expected.format(file=tmp_path / "secret")]


def test_a_missing_file(complaints: Complaints, tmp_path: Path) -> None:
    reason = "can't be read (no such file or directory): expected a file with the secret"
    found = complaints(CREDENTIAL + 'client_secret = { file = "none" }')
    assert found == [f"4:17: {tmp_path}/none {reason}"]


@pytest.mark.parametrize(("reference", "expected"), BAD_REFERENCES)
def test_a_broken_reference(reference: str, expected: str, complaints: Complaints) -> None:
    environ = {"EMPTY": "", "ODD": "a\udcff"}
    assert complaints(CREDENTIAL + f"client_secret = {reference}", environ) == [f"4:17: {expected}"]


def test_a_client_id_may_be_a_reference(load_text: Load) -> None:
    text = '[credentials.crm]\nclient_id = { env = "ID" }\nissuer = "https://login.example"'
    assert load_text(text, {"ID": "app"}).config.credentials["crm"].client_id == "app"


@pytest.mark.parametrize("value", ["", "a\nb", "a\tb"])
def test_a_client_id_is_printable(value: str, complaints: Complaints) -> None:
    text = '[credentials.crm]\nissuer = "https://login.example"\nclient_id = { env = "ID" }'
    (complaint,) = complaints(text, {"ID": value})
    assert complaint.startswith("3:13: ")


def test_a_literal_secret_is_accepted_with_a_warning(load_text: Load) -> None:
    key = "A" * 43 + "="
    text = f'{CREDENTIAL}client_secret = "s3cret"\nstore.key = "{key}"'.replace("store.key", "[store]\nkey")
    loaded = load_text(text)
    assert loaded.config.credentials["crm"].client_secret == Secret("s3cret")
    assert [(each.line, each.column, each.message, each.source) for each in loaded.warnings] == [
        (4, 17, LITERAL, "client_secret = ***"),
        (6, 7, LITERAL, "key = ***"),
    ]


def test_references_have_no_warning(load_text: Load) -> None:
    assert load_text(CREDENTIAL + 'client_secret = { env = "S" }', {"S": "s"}).warnings == []
