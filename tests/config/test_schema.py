"""The JSON Schema, and the example: it shows every key of the schema and no other."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.config.load import load, schema
from tests.config.test_grant_keys import service_account
from tests.fakes import signing

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
ENVIRON = {"OAUTH_CLIENT_ID": "app", "OAUTH_CLIENT_SECRET": "s3cret"}
SCHEMA = schema()
FREE = ("headers", "steps.json", "steps.form", "claims", "credentials.*.secrets")  # users choose the keys


@pytest.fixture(scope="module")
def whole_example() -> str:
    """The example with its commented settings: lines that start with # and no space."""
    return re.sub(r"^#(?=[\w\[])", "", EXAMPLE.read_text(), flags=re.MULTILINE)


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    name = node.get("$ref", "").removeprefix("#/$defs/")
    return SCHEMA["$defs"][name] if name else node


def keys_of_schema(node: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted paths; * stands for a name. Tables with free keys are not entered, nor are forms of a value."""
    node = resolved(node)
    for choice in (*node.get("oneOf", ()), node.get("items", {})):
        if "$ref" in choice or "oneOf" in choice:
            yield from keys_of_schema(choice, path)
    named = node.get("additionalProperties")
    if isinstance(named, dict) and "$ref" in named:
        yield from keys_of_schema(named, f"{path}.*")
    for key, child in node.get("properties", {}).items():
        yield f"{path}.{key}".removeprefix(".")
        yield from keys_of_schema(child, f"{path}.{key}".removeprefix("."))


def keys_of_toml(data: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, child in data.items():
        is_named = path in {"credentials", "callers"}
        name = f"{path}.{'*' if is_named else key}".removeprefix(".")
        if not is_named:
            yield name
        for table in child if isinstance(child, list) else [child]:
            one_form = isinstance(table, dict) and (
                table.keys() <= {"env", "file", "keyring", "command"} or "unix" in table
            )
            is_free = key.endswith("_params") or name.endswith(FREE) or one_form
            if isinstance(table, dict) and not is_free:
                yield from keys_of_toml(table, name)


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


def test_the_example_shows_every_key_and_no_other(whole_example: str) -> None:
    assert set(keys_of_toml(tomllib.loads(whole_example))) == set(keys_of_schema(SCHEMA))


def test_the_example_is_valid_unchanged() -> None:
    loaded = load(EXAMPLE, ENVIRON)
    assert loaded.warnings == []
    assert loaded.config.credentials["crm"].grant == "authorization_code"


def test_the_example_is_valid_with_all_its_settings(whole_example: str, tmp_path: Path) -> None:
    for name in re.findall(r'"([\w-]+\.(?:pem|key))"', whole_example):
        (tmp_path / name).touch()
    (tmp_path / "client-key.pem").write_text(signing.pem("rsa"))
    (tmp_path / "workload-token").touch()
    (tmp_path / "service-account.json").write_text(service_account())
    (tmp_path / "billing.pem").write_text(signing.pem("p256"))
    (tmp_path / "cluster-token").write_text("a.b.c")
    (tmp_path / "batch-password").write_text("secret\n")
    (tmp_path / "mail-refresh-token").write_text("seed\n")
    (tmp_path / "app.pem").write_text(signing.pem("rsa"))
    for name in ("toast-secret", "vault-password", "tableau-secret", "notes-api-key"):
        (tmp_path / name).write_text("secret\n")
    (tmp_path / "admin-key").write_text("A" * 20 + "\n")
    (tmp_path / "store.key").write_text("A" * 43 + "=\n")
    for caller in ("build", "reporter"):
        (tmp_path / f"{caller}.key").write_text(f"tpk_{caller:_<43}\n")
    path = tmp_path / "config.toml"
    # anyone does not go with [callers], nor notify.url with command; a token in the query is warned about
    left_out = r"^anyone = .*\n|^url = \{ env = \"NOTIFY_URL\" \}\n|, \{ query = .* \}(?=\])"
    path.write_text(re.sub(left_out, "", whole_example, flags=re.MULTILINE))
    loaded = load(path, ENVIRON)
    (legacy,) = loaded.warnings
    assert legacy.source == 'grant = "password"'
    assert loaded.config.server.tls is not None


def test_defaults_named_in_the_example_are_right() -> None:
    stated = re.compile(r"^(\w+) = (.*?)\s+# default\b", re.MULTILINE)
    defaults = {
        key: node["default"] for part in nodes(SCHEMA) for key, node in part.items() if has_default(node)
    }
    for key, value in stated.findall(EXAMPLE.read_text()):
        expected = (
            "http://127.0.0.1:8081" if key == "public_url" else defaults.get(key, "client_secret_basic")
        )
        assert tomllib.loads(f"x = {value}")["x"] == expected, key


def has_default(node: Any) -> bool:
    return isinstance(node, dict) and "default" in node


def test_the_limits_of_the_example_are_the_defaults() -> None:
    limits = tomllib.loads(EXAMPLE.read_text())["limits"]
    assert limits == {key: node["default"] for key, node in SCHEMA["$defs"]["Limits"]["properties"].items()}


def test_every_key_of_every_table_and_form_is_described() -> None:
    """The reference of the configuration is made from these texts."""
    described = [(key, each) for node in nodes(SCHEMA) for key, each in properties(node)]
    assert len(described) > 150
    for key, node in described:
        text = node.get("description", "")
        assert len(text) > 10, key
        assert text[-1] in ".:)", f"{key}: {text}"


def properties(node: dict[str, Any]) -> list[tuple[str, Any]]:
    found = node.get("properties", {})
    return list(found.items()) if node.get("type") == "object" else []


def test_the_first_line_names_the_schema() -> None:
    assert EXAMPLE.read_text().startswith("#:schema config.schema.json\n")


def test_a_secret_is_a_string_or_a_reference() -> None:
    secret = SCHEMA["$defs"]["Credential"]["properties"]["client_secret"]
    text, *references = secret["oneOf"]
    assert text == {"type": "string"}
    assert [reference["required"] for reference in references] == [
        ["env"],
        ["file"],
        ["keyring"],
        ["command"],
    ]
    assert "default" not in secret


def test_the_schema_has_no_null_and_only_keys_of_the_file() -> None:
    assert {"type": "null"} not in list(nodes(SCHEMA))
    assert "path" not in SCHEMA["properties"]
    assert "name" not in SCHEMA["$defs"]["Credential"]["properties"]
    assert all(node["additionalProperties"] is False for node in SCHEMA["$defs"].values())
