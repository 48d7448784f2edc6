"""Any TOML document gives faults inside the file or a configuration, and shows no secret."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.config.aliases import CHOICES, OTHERWISE, SAME
from proxy.config.corrected import corrected
from proxy.config.keys import known_keys
from proxy.config.syntax import other_language, syntax_fault
from tests.config.test_mutations import assert_inside, outcome

SECRET = "Sesame"
TABLES = ("server", "store", "log", "limits", "credentials", "routes", "callers")
KEYS = sorted(
    {
        *(
            key
            for path in ((), *((each, "x") for each in TABLES), *((each,) for each in TABLES))
            for key in known_keys(path)
        ),
        *(name for keys in SAME.values() for names in keys.values() for name in names.split()),
        *(name for keys in OTHERWISE.values() for names in keys for name in names.split()),
        *(
            "credential",
            "installed",
            "web",
            "name",
            "clientId",
            "client-secret",
            "TOKEN_URL",
            "my",
            "x",
            "tls",
        ),
    }
)
OF_SECRETS = (
    *(
        "client_secret",
        "clientSecret",
        "secret",
        "password",
        "refresh_token",
        "private_key",
        "value",
        "api_key",
    ),
    *("app_secret", "key", "client_secret_file", "token", "cookie_secret", "clientpassword"),
)
TEXTS = st.sampled_from(
    [
        *("", "x", "/crm", "/crm/*", "crm/", "https://a.example/b", "http://a.example", "a.example:99999"),
        *("127.0.0.1:8080", "8080", ":8080", "localhost:1", "unix:/run/x", "postgres://h/d", ":memory:"),
        *("${X:-y}", "$NAME", "env:NAME", "file:/x", "changeme", "<x>", "15s", "64KiB", "api,offline", "a b"),
        *("https://a.example/.well-known/x/y", "X-Account: a", "CRM", "a.b", "\x1b[31m", "\u202e", "{line}"),
        *(name for values in CHOICES.values() for names in values.values() for name in names.split()[:2]),
    ]
) | st.text(max_size=8)
SCALARS = st.one_of(
    TEXTS, st.booleans(), st.integers(-(10**12), 10**12), st.floats(allow_nan=True, allow_infinity=True)
)
NAMES = st.sampled_from(KEYS) | st.text(max_size=6)


def tables(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    secrets = st.dictionaries(
        st.sampled_from(OF_SECRETS),
        st.sampled_from([f"{SECRET}-1", [f"{SECRET} 2"], {"x": f"{SECRET}3"}]),
        max_size=1,
    )
    return st.builds(lambda one, other: {**one, **other}, st.dictionaries(NAMES, values, max_size=4), secrets)


INNER = tables(st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(NAMES, SCALARS, max_size=2)))
NAMED = st.dictionaries(NAMES, st.one_of(INNER, st.dictionaries(NAMES, INNER, max_size=2)), max_size=2)
DOCUMENTS = st.dictionaries(
    st.sampled_from((*TABLES, "credential", "clients", "upstreams", "proxies", "")) | NAMES,
    st.one_of(INNER, NAMED, st.lists(INNER, max_size=3), SCALARS),
    max_size=4,
)


def toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return str(value)  # nan and inf as TOML has them
        case str():
            return json.dumps(value, ensure_ascii=True)
        case dict():
            pairs = (f"{toml(key)} = {toml(each)}" for key, each in value.items())
            return "{ " + ", ".join(pairs) + " }"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case _:
            return str(value)


def written(document: dict[str, object], inline: bool) -> str:
    """As TOML: tables with headers, or all of them inline."""
    lines: list[str] = []
    for key, value in document.items():
        if inline or not isinstance(value, dict | list) or (isinstance(value, list) and not is_tables(value)):
            lines.insert(0, f"{toml(key)} = {toml(value)}")
        elif isinstance(value, list):
            for each in value:
                lines += [f"[[{toml(key)}]]", *(f"{toml(name)} = {toml(one)}" for name, one in each.items())]
        else:
            tables_below = {name: one for name, one in value.items() if isinstance(one, dict)}
            lines += [f"[{toml(key)}]"]
            lines += [
                f"{toml(name)} = {toml(one)}" for name, one in value.items() if name not in tables_below
            ]
            for name, one in tables_below.items():
                lines += [
                    f"[{toml(key)}.{toml(name)}]",
                    *(f"{toml(at)} = {toml(each)}" for at, each in one.items()),
                ]
    return "\n".join(lines) + "\n"


def is_tables(value: list[object]) -> bool:
    return bool(value) and all(isinstance(each, dict) for each in value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=DOCUMENTS, inline=st.booleans())
@example(document={"credentials": {"CLIENT": {"clientSecret": f"{SECRET}-1", "{line}": 1}}}, inline=False)
@example(document={"credentials": [{"name": "x", "secret": f"{SECRET}-1"}]}, inline=False)
@example(document={"credentials": {"my": {"installed": {"clientSecret": [f"{SECRET}-1"]}}}}, inline=True)
@example(document={"credentials": {"": {"": {}}, "x": {"web": {"web": {}}}}}, inline=False)
@example(document={"credentials": {"token": f"{SECRET}-1"}}, inline=False)
@example(document={"backends": [{"headers": {"X": f"{SECRET}-1", "": 1}}]}, inline=True)
@example(document={"clients": {"x": {"token_parameters": {"apikey": f"{SECRET}-1", "": {}}}}}, inline=True)
@example(document={"server": {"port": {"listen": 1}, "listen": "x"}, "": {"": []}}, inline=False)
def test_any_document_gives_faults_or_a_configuration(
    folder: Path, document: dict[str, object], inline: bool
) -> None:
    text = written(document, inline)
    said, faults = outcome(text.encode(), folder)
    for fault in faults:
        assert_inside(fault, text.encode())
        assert re.search(" - |expected |leave it out", fault.message), fault.message
    assert SECRET not in said


@settings(max_examples=100, deadline=None)
@given(document=DOCUMENTS)
def test_a_corrected_document_has_only_places_of_the_file(document: dict[str, object]) -> None:
    found = corrected(document)
    assert bool(found.found) or found.data is document
    for path in (*(each.path for each in found.found), *found.places.values()):
        node: object = document
        for step in path:
            assert isinstance(node, dict | list)
            node = node[step]  # type: ignore[index, call-overload]


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet="ab-_[]{}<>=:;\"'#,.\n\t 1é\0", max_size=60),
    line=st.integers(1, 9),
    column=st.integers(1, 9),
)
@example(text="", line=1, column=1)
@example(text="\n\n", line=3, column=1)
def test_any_text_has_a_syntax_fault_inside(text: str, line: int, column: int) -> None:
    line = min(line, text.count("\n") + 1)
    column = min(column, len(text.split("\n")[line - 1]) + 1)
    for start in ("Invalid value", "Cannot overwrite", "Cannot declare", "Expected '='", "Something new"):
        fault = syntax_fault(text, f"{start} (at line {line}, column {column})")
        assert 0 <= fault.offset <= len(text)
        assert fault.sentence


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("server:\n  listen: x\n", "YAML"),
        ("---\na: 1\n", "YAML"),
        ("# x\n- name: a\n  b: c\n", "YAML"),
        ('{"a": 1}', "JSON"),
        ("\n\n [1]\n", ""),
        ("; x\n[server]\n", "INI"),
        ("export TOKEN_PROXY_ISSUER=https://a.example\n", "a file of environment variables"),
        ("A_B=c\n", "a file of environment variables"),
        ("<config>\n</config>", "XML"),
        ("server {\n  listen 80;\n}", "nginx's configuration"),
        ("worker_processes 1;\n", "nginx's configuration"),
        ("", ""),
        ("# only a comment\n", ""),
        ("[server]\nlisten: x\n", ""),
        ("issuer: x\n", ""),  # one line: a colon in place of an equals sign
        ("a = { b = 1\n", ""),
        ("a = 1;\n", ""),
    ],
)
def test_another_language_is_recognised(text: str, language: str) -> None:
    assert other_language(text) == language
