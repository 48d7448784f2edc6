"""Finding and reading the file, faults of its syntax, and the report of its faults."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest

from proxy.config import load as module
from proxy.config.credential import Grant
from proxy.config.load import find_config, load
from proxy.errors import ConfigError

from .conftest import Complaints, Load, one_of

NO_VALUE = 'expected a string in "quotes", a number, true or false'
NO_VALUE_AT_ALL = f"a value is missing or incomplete: {NO_VALUE}"
NO_QUOTE = "the closing quote is missing: expected it at the end of the text"
NOT_TOML = [  # place and sentence; ours, as tomllib's message depends on the version of Python
    ("listen = \n", "1:10", NO_VALUE_AT_ALL),
    ("a = 1\r\nb = \r\n", "2:5", NO_VALUE_AT_ALL),
    ("[server]\nlisten = 'x\n", "2:12", NO_QUOTE),
    ('listen = """\nx\n\n', "2:2", NO_QUOTE),
    ("[server]\nlisten = [\n 'x'\n", "3:5", "the closing bracket is missing: expected ]"),
    ("tls = { cert = 'x'\n", "1:19", "the closing brace is missing: expected }"),
    (
        "[server]\n[server]\n",
        "2:1",
        "[server] is there twice: expected each table only once, and the first is in line 1",
    ),
    (
        "a = 1\na = 2\n",
        "2:1",
        "a is there twice: expected each key only once, and the first is in line 1",
    ),
    ("[a]\nb.c = 1\nb.c = 2\n", "3:1", "a key is there twice: expected each key only once"),
    ("a: 1\n", "1:2", 'expected "=" in place of ":"'),
    ("a\n", "1:2", "expected key = value"),
    ("a = “x”\n", "1:5", 'curly quotes: expected straight ones, "…"'),
    ("a = True\n", "1:5", "expected true or false, in lower case"),
    ("issuer = https://a.example\n", "1:10", 'a value without quotes: expected issuer = "…"'),
    ("a = 1 b = 2\n", "1:7", "expected one key = value per line"),
    ("a = '\x00'\n", "1:6", "see https://toml.io"),
]
NOT_TEXT = [
    (b"\xef\xbb\xbf[server]\n", "1:1: starts with a byte order mark - save the file without it"),
    (b"[server]\n# \xc3\xa4 \xff\n", "2:5: not UTF-8 - save the file as UTF-8"),
    ("[server]\n".encode("utf-16"), "1:1: not UTF-8 - save the file as UTF-8"),
    (b"a = " + b"[" * 5000, "1:1: nested too deeply - use fewer levels"),
    (
        b"a = " + b"9" * 5000,
        "1:1: a number is too long - use fewer digits",
    ),
]
EVERYTHING_WRONG = """\
[server]
lisen = "127.0.0.1:8080"

[credentials.crm]
grant = "client_credential"
issuer = "http://login.example"

[[routes]]
\tpath = "/crm/"
upstream = "http://api.example"
credential = "crn"
"""
REPORT = """\
{file}:2:1: unknown key 'lisen' - did you mean 'listen'?
    2 | lisen = ***
      | ^
{file}:4:1: client_id is missing - this table requires it
    4 | [credentials.crm]
      | ^
{file}:4:1: client_secret is missing - grant = "client_credentials" needs one, or client_auth = "none"
    4 | [credentials.crm]
      | ^
{file}:5:9: {grants} - did you mean "client_credentials"?
    5 | grant = "client_credential"
      |         ^
{file}:6:10: http would expose secrets to the network: expected https (http on loopback only)
    6 | issuer = "http://login.example"
      |          ^
{file}:9:9: expected a path prefix: /name or /name/name, without a slash at the end - did you mean "/crm"?
    9 |  path = "/crm/"
      |         ^
{file}:10:12: http would expose the token to the network: expected https, or plaintext = true
   10 | upstream = "http://api.example"
      |            ^
{file}:11:14: there is no credential 'crn' - did you mean 'crm'?
   11 | credential = "crn"
      |              ^"""


def test_every_fault_is_reported_at_once_with_its_line(load_text: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as report:
        load_text(EVERYTHING_WRONG)
    assert str(report.value) == REPORT.format(file=tmp_path / "config.toml", grants=one_of(get_args(Grant)))


@pytest.mark.parametrize(("text", "place", "sentence"), NOT_TOML)
def test_invalid_toml_is_a_fault_with_its_place(
    text: str, place: str, sentence: str, complaints: Complaints
) -> None:
    (complaint,) = complaints(text)
    assert complaint.startswith(f"{place}: not TOML: ")
    assert complaint.endswith(sentence)


@pytest.mark.parametrize(("content", "expected"), NOT_TEXT)
def test_an_unreadable_text_is_a_fault_with_its_place(
    content: bytes, expected: str, complaints: Complaints
) -> None:
    assert complaints(content) == [expected]


def test_crlf_line_ends_are_accepted(complaints: Complaints) -> None:
    assert complaints("[log]\r\n\r\nlevel = 1 \r\n")[0].startswith("3:9: expected ")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.toml", "no such file or directory"),
        (".", "is a directory"),
        ("a/b", "no such file or directory"),
    ],
)
def test_a_file_that_can_not_be_read_is_one_fault(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as report:
        load(tmp_path / name, {})
    assert str(report.value) == f"{tmp_path / name}:1:1: {reason} - give the configuration with -c FILE"


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop root's rights for the block, as root can read every file."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


def test_a_forbidden_file_is_one_fault(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.touch(mode=0)
    with as_nobody(), pytest.raises(ConfigError, match="permission denied"):
        load(path, {})


def test_the_configuration_knows_its_file(load_text: Load, tmp_path: Path) -> None:
    assert load_text("").config.path == tmp_path / "config.toml"


def test_a_given_file_is_used_even_if_it_does_not_exist() -> None:
    assert find_config(Path("given.toml"), {"TOKEN_PROXY_CONFIG": "other.toml"}) == Path("given.toml")


def test_the_first_existing_file_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, here, system = (tmp_path / name for name in ("named.toml", "here.toml", "system.toml"))
    monkeypatch.setattr(module, "PLACES", (here, system))
    for place in (system, here):
        place.touch()
        assert find_config(None, {"TOKEN_PROXY_CONFIG": ""}) == place
    named.touch()
    assert find_config(None, {"TOKEN_PROXY_CONFIG": str(named)}) == named


@pytest.fixture
def no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACES", (tmp_path / "a", tmp_path / "b"))


def test_a_file_that_the_variable_names_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here.toml"
    here.touch()
    monkeypatch.setattr(module, "PLACES", (here,))
    with pytest.raises(ConfigError) as report:
        find_config(None, {"TOKEN_PROXY_CONFIG": "/none.toml"})
    assert str(report.value).startswith("/none.toml:1:1: $TOKEN_PROXY_CONFIG names this file")


@pytest.mark.usefixtures("no_files")
def test_without_any_file_the_fault_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as report:
        find_config(None, {})
    said = str(report.value)
    for part in (
        "$TOKEN_PROXY_CONFIG",
        str(tmp_path / "a"),
        str(tmp_path / "b"),
        "-c FILE",
        "docs/operations.md",
    ):
        assert part in said
    for variable in ("TOKEN_PROXY_UPSTREAM=", "TOKEN_PROXY_ISSUER=", "TOKEN_PROXY_CLIENT_ID="):
        assert variable in said


@pytest.mark.usefixtures("no_files")
def test_without_any_file_a_misspelt_variable_is_named() -> None:
    with pytest.raises(ConfigError) as report:
        find_config(None, {"TOKEN_PROXY_UPSTREM": "https://api.example"})
    assert "TOKEN_PROXY_UPSTREM: unknown variable - did you mean TOKEN_PROXY_UPSTREAM?" in str(report.value)


@pytest.mark.usefixtures("no_files")
def test_without_any_file_variables_describe_the_configuration() -> None:
    assert find_config(None, {"TOKEN_PROXY_LISTEN": "127.0.0.1:1"}) is None


def test_a_folder_that_may_not_be_searched_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another file would be used, or none."""
    hidden = tmp_path / "hidden" / "config.toml"
    hidden.parent.mkdir()
    hidden.touch()
    hidden.parent.chmod(0)
    monkeypatch.setattr(module, "PLACES", (hidden,))
    try:
        with as_nobody():
            assert find_config(None, {}) == hidden
            with pytest.raises(ConfigError, match="permission denied"):
                load(hidden, {})
    finally:
        hidden.parent.chmod(0o700)
