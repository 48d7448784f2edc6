"""Secrets of a command or a keyring: what is taken, and every way to fail."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import keyring
import pytest

from proxy.config import lookups
from proxy.config.files import Files
from proxy.config.load import load
from proxy.config.lookups import Command
from tests.fakes.keyring_backend import FILE, FileKeyring

from .conftest import Complaints, Load

TEXT = '[credentials.key]\ngrant = "static"\nvalue = {}\n'
ON_STDOUT = "expected the secret on its stdout"
TO_SEE = f"{ON_STDOUT} - run it to see why"
NOT_A_LIST = 'expected a list, as there is no shell: { command = ["op", "read", "op://…"] }'
FAULTS = [  # the command in sh, what is wrong
    ("exit 3", f"the command sh ended with exit code 3: {TO_SEE}"),
    ("echo sesame; exit 1", f"the command sh ended with exit code 1: {TO_SEE}"),
    ("echo sesame >&2; exit 1", f"the command sh ended with exit code 1: {TO_SEE}"),
    ("kill -9 $$", f"the command sh ended by signal 9: {TO_SEE}"),
    (":", f"the command sh prints nothing: {ON_STDOUT}"),
    ("echo", "the command sh is empty: expected the secret"),
    ("printf '\\377'", "the command sh is not UTF-8: expected the secret as text"),
    ("cat /dev/zero", "the command sh prints too much: expected nothing but the secret on its stdout"),
]
A_PROGRAM = "expected a program's name or path"
FORMS = [
    ('{ command = "op read" }', NOT_A_LIST),
    ("{ command = [] }", NOT_A_LIST),
    ("{ command = [5] }", NOT_A_LIST),
    ('{ command = [""] }', "expected the name of a program, and arguments without NUL characters"),
    (
        '{ command = ["a", "\\u0000"] }',
        "expected the name of a program, and arguments without NUL characters",
    ),
    (
        '{ command = ["no-such-program"] }',
        f"the command no-such-program can't be started (no such file or directory): {A_PROGRAM}",
    ),
    ('{ keyring = "name" }', 'expected { keyring = "service/name" }'),
    ('{ keyring = "/name" }', 'expected { keyring = "service/name" }'),
    ('{ keyring = "service/" }', 'expected { keyring = "service/name" }'),
    ("{ keyring = 5 }", 'expected { keyring = "service/name" }'),
]


def by(*argv: str) -> str:
    listed = ", ".join(f"'''{each}'''" for each in argv)
    return TEXT.format(f"{{ command = [{listed}] }}")


def environ(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **more}


@pytest.fixture
def value(load_text: Load):
    def value(text: str, **more: str) -> str:
        found = load_text(text, environ(**more)).config.credentials["key"].value
        assert found is not None
        return found.reveal()

    return value


def test_a_command_prints_the_secret(value) -> None:
    assert value(by("echo", "a  b; $HOME")) == "a  b; $HOME"
    assert value(by("printf", "%s", "no newline")) == "no newline"
    assert value(by("sh", "-c", "printf 'in\\r\\n'")) == "in"


def test_its_environment_has_nothing_of_ours(value) -> None:
    more = {"HOME": "/h", "LC_ALL": "C", "OAUTH_CLIENT_SECRET": "sesame", "TOKEN_PROXY_KEY": "sesame"}
    names = value(by("sh", "-c", "env | cut -d= -f1 | sort | tr '\\n' ' ' | sed 's/ $//'"), **more).split()
    assert set(names) <= {"HOME", "LC_ALL", "PATH", "PWD", "SHLVL", "_", "OLDPWD"}
    assert {"HOME", "LC_ALL", "PATH"} <= set(names)


def test_it_runs_in_the_folder_of_the_file(value, tmp_path: Path) -> None:
    script = tmp_path / "print.sh"
    script.write_text("#!/bin/sh\nbasename $PWD\n")
    script.chmod(0o700)
    assert value(by("./print.sh")) == tmp_path.name


def test_it_reads_nothing_and_its_stderr_goes_nowhere(value, capfd: pytest.CaptureFixture[str]) -> None:
    assert value(by("sh", "-c", "cat; echo sesame >&2; echo end")) == "end"
    assert capfd.readouterr() == ("", "")


def test_a_child_that_keeps_its_stdout_open_is_not_waited_for(value) -> None:
    started = time.monotonic()
    assert value(by("sh", "-c", "echo early; sleep 60 & exit 0")) == "early"
    assert time.monotonic() - started < 55


@pytest.mark.parametrize(("script", "expected"), FAULTS)
def test_a_command_that_fails(script: str, expected: str, complaints: Complaints) -> None:
    assert complaints(by("sh", "-c", script), environ()) == [f"3:9: {expected}"]


@pytest.mark.parametrize(("form", "expected"), FORMS)
def test_a_form_that_is_none(form: str, expected: str, complaints: Complaints) -> None:
    assert complaints(TEXT.format(form), environ()) == [f"3:9: {expected}"]


@pytest.mark.parametrize(
    "script", ["sleep 60", "echo sesame; exec >&-; sleep 60", "while :; do echo; sleep 0.1; done"]
)
def test_a_command_that_takes_too_long_is_ended_with_its_children(
    script: str, complaints: Complaints, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lookups, "LIMIT", 1.0)
    found = complaints(by("sh", "-c", f"echo $$ > {tmp_path}/pid; {script} & {script}"), environ())
    assert found == [f"3:9: the command sh took longer than 1 s: {ON_STDOUT}"]
    group = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, signal.SIG_BLOCK)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.05)
    pytest.fail("its children live")


def test_without_secrets_nothing_is_run(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(by("touch", str(tmp_path / "ran")))
    assert load(path, environ(), secrets=False).config.credentials["key"].value is not None
    assert not (tmp_path / "ran").exists()


def test_a_command_runs_once_for_all_that_name_it(tmp_path: Path, load_text: Load) -> None:
    count = f"echo x >> {tmp_path}/runs; wc -l < {tmp_path}/runs"
    text = by("sh", "-c", count) + by("sh", "-c", count).replace(".key]", ".other]")
    loaded = load_text(text, environ())
    assert {each.value.reveal() for each in loaded.config.credentials.values() if each.value} == {"1"}
    (found,) = loaded.lookups("key")
    assert isinstance(found, Command)
    assert loaded.again(loaded.files.but({Path("x")})).config == loaded.config
    again = loaded.again(loaded.files.but({found}))
    assert [each.value.reveal() for each in again.config.credentials.values() if each.value] == ["2", "2"]


def test_a_later_failure_leaves_what_was_found(tmp_path: Path, load_text: Load) -> None:
    flag = tmp_path / "flag"
    loaded = load_text(by("sh", "-c", f"echo once; mkdir {flag}"), environ())
    again = loaded.again(loaded.files.again())
    assert again.config == loaded.config
    assert list(again.files.failed.values()) == [f"the command sh ended with exit code 1: {TO_SEE}"]
    assert again.again(Files(instead=loaded.files.contents)).config == loaded.config


# -- keyring


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = keyring.get_keyring()
    keyring.set_keyring(FileKeyring())
    file = tmp_path / "keyring"
    file.write_text("https://api.example/v1 me sesame\n")
    monkeypatch.setenv(FILE, str(file))
    yield file
    keyring.set_keyring(before)


def test_a_keyring_has_the_secret(entries: Path, value) -> None:
    assert value(TEXT.format('{ keyring = "https://api.example/v1/me" }')) == "sesame"


KEYRINGS = [  # content, fault
    ("", "the keyring has no such entry - `keyring set https://api.example/v1 me` makes it"),
    ("locked\n", "the keyring can't be used here (KeyringLocked) - `keyring diagnose` says more"),
    ("https://api.example/v1 me \n", "the keyring's https://api.example/v1/me is empty: expected the secret"),
]


@pytest.mark.parametrize(("content", "expected"), KEYRINGS)
def test_a_keyring_without_it(content: str, expected: str, entries: Path, complaints: Complaints) -> None:
    entries.write_text(content)
    assert complaints(TEXT.format('{ keyring = "https://api.example/v1/me" }')) == [f"3:9: {expected}"]


def test_a_keyring_that_does_not_respond(complaints: Complaints, entries: Path, monkeypatch) -> None:
    monkeypatch.setattr(lookups, "LIMIT", 0.5)
    entries.unlink()
    os.mkfifo(entries)  # no writer: reading waits
    try:
        (found,) = complaints(TEXT.format('{ keyring = "a/b" }'))
    finally:
        os.close(os.open(entries, os.O_RDWR))
    assert found == "3:9: the keyring took longer than 0 s: unlock it before token-proxy starts"


def test_without_the_package_the_fault_says_what_to_install(
    complaints: Complaints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    (found,) = complaints(TEXT.format('{ keyring = "a/b" }'))
    assert found == '3:9: the package keyring is not installed: `pip install "token-proxy[keyring]"`'
