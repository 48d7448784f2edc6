"""A damaged configuration gives faults inside the file or a configuration, and shows no secret."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.config.load import load
from proxy.errors import ConfigError, Fault
from tests.config.test_grant_keys import service_account
from tests.fakes import signing

EXAMPLE = (Path(__file__).parents[2] / "config.example.toml").read_text()
ENVIRON = {"OAUTH_CLIENT_ID": "app", "OAUTH_CLIENT_SECRET": "s"}
SECRET = "Sesame"  # in every secret below
LITERALS = [  # each secret of the example as a literal string, in every notation of TOML
    ('client_secret = { env = "OAUTH_CLIENT_SECRET" }', 'client_secret = "Sesame-1"'),
    ('client_secret = { env = "OAUTH_CLIENT_SECRET" }', "client_secret = '''\nSesame-2\nissuer Sesame'''"),
    ('refresh_token = { file = "mail-refresh-token" }', "refresh_token = 'Sesame-3'"),
    ('key = { file = "store.key" }', 'key = "Sesame4AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="'),
    ('key = { file = "build.key" }', 'key = "Sesame-7-of-twenty-characters"'),
    (
        'key = { file = "reporter.key" }',
        "key = ['Sesame-8-of-twenty-characters', '''Sesame-9-of-20-characters''']",
    ),
    ('admin_key = { file = "admin-key" }', 'admin_key = "Sesame-7-of-20-letters"'),
    ('{ file = "toast-secret" }', '"Sesame-10"'),
    ('value = { file = "notes-api-key" }', 'value = "Sesame-12"'),
    ('password = { file = "batch-password" }', 'password = "Sesame-14"'),
    ('url = { env = "NOTIFY_URL" }', 'url = "https://hooks.example/Sesame-15"'),
    ('{ file = "tableau-secret" }', '"Sesame-13"'),
    ('{ file = "vault-password" }', '"Sesame-11"'),
    ("token_params = {", 'token_params = { password = "Sesame-5", assertion = "Sesame-6",'),
]
PIECES = [*"\"'=[]{},.:#\\ \t\n\r\0\x1b\ufeffé", '"""', "'''", "\r\n", "[[", "0x" + "f" * 300, "9" * 5000]
VALUES = [
    *("5", "-1", "1.5", "nan", "true", "2026-11-23", "07:32:00", '""', '"x"', '"\\u0000"', "[]", "{}"),
    *("[[1], 'a']", '{ env = "NOT_SET" }', '{ file = "." }', "{ a = { b = 1 } }", "[" * 400 + "]" * 400),
]

Lines = list[str]
Change = Callable[[Lines, int, int], None]  # lines, the index of one, and an arbitrary number


def everything_set() -> str:
    """The example with all its keys, and its secrets as literals."""
    # anyone is not for [callers], nor notify.command beside url
    text = re.sub(r"^#(?=[\w\[])(?!anyone|command)", "", EXAMPLE, flags=re.MULTILINE)
    for reference, literal in LITERALS:
        assert reference in text
        text = text.replace(reference, literal, 1)
    return text


def drop(lines: Lines, at: int, _: int) -> None:
    del lines[at]


def repeat(lines: Lines, at: int, other: int) -> None:
    lines.insert(other % len(lines), lines[at])


def swap(lines: Lines, at: int, other: int) -> None:
    other %= len(lines)
    lines[at], lines[other] = lines[other], lines[at]


def join(lines: Lines, at: int, _: int) -> None:
    lines[at : at + 2] = [" ".join(lines[at : at + 2])]


def end(lines: Lines, at: int, column: int) -> None:
    lines[at:] = [lines[at][: column % (len(lines[at]) + 1)]]


def rename(lines: Lines, at: int, letter: int) -> None:
    lines[at] = re.sub(
        r"[a-z_]+", lambda key: key[0][:2] + chr(97 + letter % 26) + key[0][3:], lines[at], count=1
    )


def retype(lines: Lines, at: int, number: int) -> None:
    lines[at] = f"{lines[at].partition('=')[0]}= {VALUES[number % len(VALUES)]}"


def forget(lines: Lines, at: int, column: int) -> None:
    column %= len(lines[at]) + 1
    lines[at] = lines[at][:column] + lines[at][column + 1 :]


def unquote(lines: Lines, at: int, number: int) -> None:
    lines[at] = re.sub("[\"']", "", lines[at], count=1 + number % 2)


def insert(lines: Lines, at: int, number: int) -> None:
    column, piece = number % (len(lines[at]) + 1), PIECES[number % len(PIECES)]
    lines[at] = lines[at][:column] + piece + lines[at][column:]


WHOLE = everything_set().split("\n")
HOLDING_SECRETS = [at for at, line in enumerate(WHOLE) if SECRET in line]
places = st.sampled_from(HOLDING_SECRETS) | st.integers(0, len(WHOLE) - 1)
changes = st.sampled_from([drop, repeat, swap, join, end, rename, retype, forget, unquote, insert])


@st.composite
def damaged(draw: st.DrawFn) -> str:
    lines = list(WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        change, at, number = draw(changes), draw(places), draw(st.integers(0, 10_000))
        change(lines, at % len(lines), number)
        lines = "\n".join(lines).split("\n")
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)


def outcome(content: bytes, folder: Path) -> tuple[str, list[Fault]]:
    """The whole report about a file, and its faults or warnings. Only ConfigError is caught."""
    path = folder / "config.toml"
    path.write_bytes(content)
    try:
        loaded = load(path, ENVIRON)
    except ConfigError as error:
        return f"{error}{error!r}", error.faults
    warnings = [warning.render(str(path)) for warning in loaded.warnings]
    return f"{loaded!r}{loaded.config!r}{warnings}", loaded.warnings


def assert_inside(fault: Fault, content: bytes) -> None:
    lines = content.decode(errors="replace").replace("\r\n", "\n").split("\n")
    assert 1 <= fault.line <= len(lines)
    assert 1 <= fault.column <= len(lines[fault.line - 1]) + 1
    assert fault.source.isprintable()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the example names."""
    folder = tmp_path_factory.mktemp("config")
    for name in re.findall(r'"([\w-]+\.(?:pem|key))"', EXAMPLE):
        (folder / name).touch()
    (folder / "app.pem").write_text(signing.pem("rsa"))
    (folder / "client-key.pem").write_text(signing.pem("rsa"))
    (folder / "workload-token").touch()
    (folder / "service-account.json").write_text(service_account())
    (folder / "billing.pem").write_text(signing.pem("p256"))
    (folder / "cluster-token").write_text("a.b.c")
    (folder / "notes-api-key").write_text("key")
    return folder


def test_the_example_with_all_its_keys_is_a_configuration_with_warnings(folder: Path) -> None:
    said, warnings = outcome("\n".join(WHOLE).encode(), folder)
    assert SECRET not in said
    messages = [warning.message for warning in warnings]
    others = [each for each in messages if "a secret in the configuration file itself" not in each]
    assert (len(messages), len(others)) == (16, 2), messages


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_a_damaged_file_gives_faults_or_a_configuration(folder: Path, text: str) -> None:
    said, faults = outcome(text.encode(), folder)
    for fault in faults:
        assert_inside(fault, text.encode())
        assert re.search(" - |expected ", fault.message), "a fault names its remedy"
    if not re.search(rf"{SECRET}[\w-]*\s*[=.\]]", text):  # as a key it is no longer a secret
        assert SECRET not in said


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, len(EXAMPLE.encode())), junk=st.binary(min_size=1, max_size=3))
@example(at=0, junk=b"\xef\xbb\xbf")
@example(at=100, junk=b"\xff")
def test_arbitrary_bytes_give_faults_or_a_configuration(folder: Path, at: int, junk: bytes) -> None:
    content = EXAMPLE.encode()
    content = content[:at] + junk + content[at:]
    _, faults = outcome(content, folder)
    for fault in faults:
        assert_inside(fault, content)
