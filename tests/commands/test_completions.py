"""Completion of the command line, by the real shells where they are installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.clock import SystemClock
from proxy.commands import completions
from proxy.config import load
from proxy.store.base import AccountId, Record
from proxy.store.sqlite.names import account_names
from proxy.store.sqlite.store import SQLiteStore

CONFIG = """
[server]
state_dir = "state"

[credentials.crm]
issuer = "https://login.example"
client_id = "app"
client_secret = { env = "NOT_SET_HERE" }

[credentials.crm-eu]
issuer = "https://login.example"
client_id = "app"

[callers.build]
networks = ["127.0.0.1"]

[[routes]]
path = "/crm"
upstream = "https://crm.example"
credential = "crm"
account = "team"
"""
BASH = r"""
eval "$(token-proxy completion bash)"
complete -p token-proxy
for line in "$@"; do
    COMP_LINE="$line" COMP_POINT=${#line}
    _token_proxy_completion token-proxy
    echo "${COMPREPLY[*]}"
done
"""
# compadd and _describe work in the line editor alone: these print what they are given.
ZSH = r"""
autoload -U compinit && compinit -u -D
eval "$(token-proxy completion zsh)"
compadd() { print -r -- "${(@)completions}" }
_describe() { print -r -- "${(@)completions_with_descriptions%%:*}" }
print -r -- "complete: ${_comps[token-proxy]}"
for line in "$@"; do
    words=("${(@s: :)line}") CURRENT=${#words}
    _token_proxy_completion
done
"""
FISH = r"""
token-proxy completion fish | source
echo complete: (complete -c token-proxy | count)
for line in $argv
    echo (complete -C $line | string split -f 1 \t)
end
"""
PEOPLE = ("alice@example.com", "albert", "bob")


@pytest.fixture
async def folder(tmp_path, monkeypatch):
    """A configuration whose secret can't be read, and a store with accounts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKEN_PROXY_CONFIG", raising=False)
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "state").mkdir()
    store = await SQLiteStore.open(tmp_path / "state/tokens.db", SystemClock())
    for name in PEOPLE:
        await store.put(Record(AccountId("crm", name), 1, "valid", None, None, b""), expected=0)
    await store.put(Record(AccountId("crm", "alfred"), 1, "logged_out", None, None, b""), expected=0)
    await store.close()
    return tmp_path


def complete(line, **environ):
    """The values for the last word, by the program that all the scripts call."""
    done = CliRunner().invoke(
        main,
        prog_name="token-proxy",
        env={"_TOKEN_PROXY_COMPLETE": "bash_complete", "COMP_WORDS": line, **environ},
    )
    assert done.stderr == ""
    return [value.partition(",")[2] for value in done.stdout.split()]


def by_shell(program, arguments, script, *lines):
    found = shutil.which(program)
    assert found is not None
    done = subprocess.run(
        [found, *arguments, "-c", script, *lines],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    first, *found = done.stdout.splitlines()
    assert "complete" in first
    return found


@pytest.mark.usefixtures("folder")
def test_bash_completes_names_and_what_follows_its_own_word_breaks():
    lines = (
        "token-proxy stat",
        "token-proxy login ",
        "token-proxy login crm --account al",
        "token-proxy login crm --account alice@ex",
        "token-proxy login crm --account=alice@",
    )
    assert by_shell("bash", ["--norc"], BASH, "bash", *lines) == [
        "status",
        "crm crm-eu",
        "albert alice@example.com",
        "example.com",
        "example.com",
    ]


@pytest.mark.shells
@pytest.mark.usefixtures("folder")
def test_zsh_completes_names():
    lines = ("token-proxy stat", "token-proxy login ", "token-proxy logout crm --account al")
    assert by_shell("zsh", ["-f"], ZSH, "zsh", *lines) == ["status", "crm crm-eu", "albert alice@example.com"]


@pytest.mark.shells
@pytest.mark.usefixtures("folder")
def test_fish_completes_names():
    lines = ("token-proxy stat", "token-proxy login ", "token-proxy logout crm --account al")
    assert by_shell("fish", ["--no-config"], FISH, *lines) == [
        "status",
        "crm crm-eu",
        "albert alice@example.com",
    ]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("token-proxy token crm", ["crm", "crm-eu"]),
        ("token-proxy token crm --account ", ["albert", "alice@example.com", "bob", "team"]),
        ("token-proxy token --account b crm-", ["crm-eu"]),
        ("token-proxy token crm-eu --account ", []),
        ("token-proxy explain GET /", ["/crm"]),
        ("token-proxy explain GET /crm --caller ", ["build"]),
        ("token-proxy exec --caller b", ["build"]),
        ("token-proxy caller-key ", ["build"]),
        ("token-proxy wait --for re", ["ready"]),
        ("token-proxy -c nowhere.toml login ", []),
        ("token-proxy login -c nowhere.toml ", []),
        ("token-proxy login -c config.toml ", ["crm", "crm-eu"]),
    ],
)
def test_names_are_those_of_the_configuration_and_of_the_store(line, values):
    assert complete(line) == values


@pytest.mark.parametrize("text", ["credentials = 1", "[credentials", "[[credentials]]\nname = 'x'", "\xff"])
def test_whatever_is_wrong_there_is_nothing_to_complete_and_nothing_is_said(folder, text):
    (folder / "config.toml").write_text(text, encoding="latin-1")
    for line in ("login ", "login crm --account ", "explain GET /", "explain GET / --caller "):
        assert complete(f"token-proxy {line}") == []


def test_accounts_are_those_of_the_configuration_where_there_is_no_store_and_none_is_made(folder):
    (folder / "state/tokens.db").unlink()
    assert complete("token-proxy login crm --account ") == ["team"]
    assert not (folder / "state/tokens.db").exists()


def test_a_store_that_is_none_is_left_as_it_is(folder):
    (folder / "state/tokens.db").write_text("no database")
    assert complete("token-proxy login crm --account ") == ["team"]
    assert (folder / "state/tokens.db").read_text() == "no database"


def test_names_are_limited_and_begin_as_typed(folder):
    path = folder / "state/tokens.db"
    assert account_names(path, "crm", "al", 1) == ["albert"]
    assert account_names(path, "crm", "%", 9) == []


def test_the_named_file_is_read(folder, monkeypatch):
    (folder / "config.toml").rename(folder / "other.toml")
    assert complete("token-proxy login ") == ["default"]  # of the variables
    monkeypatch.setenv("TOKEN_PROXY_CONFIG", "other.toml")
    assert complete("token-proxy login ") == ["crm", "crm-eu"]
    assert completions.PLACES == load.PLACES


def test_completion_of_credentials_imports_little(folder):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "proxy"],
        env={**os.environ, "_TOKEN_PROXY_COMPLETE": "bash_complete", "COMP_WORDS": "token-proxy login "},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.stdout == "plain,crm\nplain,crm-eu\n"
    assert loaded.isdisjoint({"asyncio", "aiohttp", "pydantic", "cryptography", "rich"})
