"""The command line: options, exit codes, and what goes to stdout and stderr."""

import json
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from proxy import cli
from proxy.commands import group, shared
from proxy.demo.faults import NAMED
from proxy.errors import ConfigError, LoginRequired, ProxyError, StoreError, TokenUnavailable

COMMANDS = {
    "run",
    "demo",
    "caller-key",
    "exec",
    "check",
    "login",
    "token",
    "status",
    "wait",
    "explain",
    "logout",
    "open",
    "schema",
    "completion",
}
UNLISTED = {"help", "version"}
CONFIG = """
[credentials.crm]
issuer = "https://login.example"
client_id = "app"
client_secret = {{ env = "CRM_SECRET" }}

[[routes]]
path = "/{path}"
upstream = "https://crm.example"
credential = "crm"
"""


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Run a command in a folder without any configuration but that of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRM_SECRET", "s3cret")
    monkeypatch.delenv("TOKEN_PROXY_CONFIG", raising=False)
    return lambda *arguments: CliRunner().invoke(cli.main, arguments)


def write(path, name="crm"):
    path.write_text(CONFIG.format(path=name))
    return path


# -- help


def test_help_lists_every_command(call):
    shown = call("--help")
    assert shown.exit_code == 0
    listed = shown.stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    assert {line.split()[0] for line in listed.splitlines()} == COMMANDS
    assert "..." not in listed


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_explains_itself(call, command):
    shown = call(command, "--help")
    assert shown.exit_code == 0
    assert "--debug" in shown.stdout
    assert call(command, "-h").stdout == shown.stdout
    assert call("help", command).stdout == shown.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_help_is_short_and_ends_with_an_example_of_that_command(call, command):
    shown = call(command, "--help").stdout
    assert len(shown.splitlines()) <= 50
    *_, example = shown.rstrip().splitlines()
    assert f"token-proxy {command}" in example
    assert len(shown.rpartition("Example")[2].splitlines()) <= 4 or command == "demo"


def test_help_and_the_version_are_commands_too(call):
    assert call("help").stdout == call("--help").stdout
    assert call("version").stdout == call("--version").stdout
    assert call("help", "version").exit_code == 0
    failed = call("help", "nothing")
    assert (failed.exit_code, failed.stdout) == (2, "")


@pytest.mark.parametrize(("verb", "meant"), group.VERBS.items())
def test_what_other_tools_call_a_command_leads_to_ours(call, verb, meant):
    for arguments in ((verb,), ("help", verb), (verb.upper(), "--option")):
        failed = call(*arguments)
        assert (failed.exit_code, failed.stdout) == (2, "")
        assert f"it is `token-proxy {meant}` here" in failed.stderr


def test_other_tools_names_are_none_of_ours():
    assert set(group.VERBS.values()) <= COMMANDS
    assert set(group.VERBS).isdisjoint(COMMANDS | UNLISTED)


@pytest.mark.parametrize(
    ("arguments", "suggested"), [(("statsu",), "status"), (("status", "--wach"), "--watch")]
)
def test_a_misspelt_command_or_option_is_suggested(call, arguments, suggested):
    failed = call(*arguments)
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert suggested in failed.stderr.partition("Error: ")[2]


def test_the_demos_faults_are_listed_with_descriptions(call):
    shown = call("demo", "--list-faults")
    assert shown.exit_code == 0
    lines = [line.split(maxsplit=1) for line in shown.stdout.splitlines()]
    assert [name for name, _ in lines] == list(NAMED)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--fault", "outrage", "no fault 'outrage'"),
        ("--fault", "outrage", "drop-after-commit"),
        ("--fault", "html:1,outage@9-3", "ends before it starts"),
        ("--lifetime", "0", "--lifetime"),
        ("--grace", "-1", "--grace"),
    ],
)
def test_an_invalid_fault_or_time_is_a_usage_error(call, option, value, said):
    shown = call("demo", option, value)
    assert shown.exit_code == 2
    assert said in shown.stderr


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_printed(call, option):
    """With what it runs on, behind the version: programs read the third word."""
    line = r"token-proxy, version \d+\.\d+\.\d+ \((not )?compiled(: [^,]+)?, Python 3\.\d+\.\d+\S*\)\n"
    assert re.fullmatch(line, call(option).stdout)


def test_without_arguments_help_is_printed(call):
    shown = call()
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, call("--help").stdout, "")


def test_help_does_not_import_the_server():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "proxy", "login", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in loaded
    assert loaded.isdisjoint({"asyncio", "aiohttp", "pydantic", "cryptography", "prometheus_client", "rich"})


# -- which configuration


def test_the_configuration_is_the_first_that_exists(call, tmp_path, monkeypatch):
    write(tmp_path / "config.toml")
    assert call("check").stdout.startswith("config.toml: no faults (1 credential, 1 route)\n")
    monkeypatch.setenv("TOKEN_PROXY_CONFIG", str(write(tmp_path / "named.toml")))
    assert call("check").stdout.startswith(f"{tmp_path}/named.toml: no faults (1 credential, 1 route)\n")
    given = write(tmp_path / "given.toml")
    assert call("check", "-c", str(given)).stdout.startswith(f"{given}: no faults (1 credential, 1 route)\n")


@pytest.mark.parametrize("command", sorted(COMMANDS - {"demo", "schema", "caller-key", "completion"}))
def test_without_a_configuration_the_places_are_named(call, command):
    arguments = {
        "explain": ["GET", "/crm"],
        "exec": ["true"],
        **{name: ["crm"] for name in ("login", "token", "logout")},
    }
    failed = call(command, *arguments.get(command, []))
    assert (failed.exit_code, failed.stdout) == (2, "")
    for place in ("$TOKEN_PROXY_CONFIG", "config.toml", "/etc/token-proxy/config.toml", "-c FILE"):
        assert place in failed.stderr


def test_the_file_may_be_given_before_the_command_and_the_one_after_it_counts(call, tmp_path):
    before, after = write(tmp_path / "before.toml"), write(tmp_path / "after.toml")
    assert call("-c", str(before), "check").stdout.startswith(f"{before}: no faults")
    assert call("-c", str(before), "check", "-c", str(after)).stdout.startswith(f"{after}: no faults")
    assert call("-c", "nowhere.toml", "schema").exit_code == 0


def test_a_file_without_a_command_is_a_usage_error(call, tmp_path):
    failed = call("-c", str(write(tmp_path / "config.toml")))
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert "Missing command" in failed.stderr


def test_a_file_named_by_the_variable_must_exist(call, tmp_path, monkeypatch):
    write(tmp_path / "config.toml")
    monkeypatch.setenv("TOKEN_PROXY_CONFIG", "/nowhere.toml")
    failed = call("check")
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert failed.stderr.startswith("/nowhere.toml:1:1: $TOKEN_PROXY_CONFIG names this file")


def test_a_missing_file_is_named(call):
    failed = call("check", "-c", "nowhere.toml")
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert failed.stderr.startswith("nowhere.toml:1:1: no such file or directory - ")


def test_check_prints_every_fault_on_stderr(call, tmp_path):
    text = write(tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(
        text.replace("issuer", "isuer").replace("https://crm", "http://crm")
    )
    failed = call("check")
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert failed.stderr.count("config.toml:") == 2
    assert "s3cret" not in failed.stderr


def test_check_warns_of_a_secret_in_the_file_and_does_not_show_it(call, tmp_path):
    text = write(tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(text.replace('{ env = "CRM_SECRET" }', '"in-the-file"'))
    done = call("check")
    assert done.exit_code == 0
    assert done.stdout.startswith("config.toml: no faults (1 credential, 1 route)\n")
    assert done.stderr.startswith("warning: config.toml:5:17: a secret in the configuration file itself")
    assert "in-the-file" not in done.stderr


def test_schema_prints_a_json_schema_and_needs_no_configuration(call):
    done = call("schema")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert call("schema", "-c", "nowhere.toml").stdout == done.stdout


# -- errors


@pytest.mark.parametrize(
    "arguments", [("nothing",), ("token",), ("token", "crm", "--nothing"), ("status", "crm")]
)
def test_a_wrong_call_gets_a_usage_error(call, arguments):
    failed = call(*arguments)
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert "Error: " in failed.stderr


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (LoginRequired("log in"), 3, "token-proxy: log in\n"),
        (TokenUnavailable("later"), 1, "token-proxy: later\n"),
        (StoreError("the disk is full"), 1, "token-proxy: the disk is full\n"),
        (ProxyError("no"), 1, "token-proxy: no\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            KeyError("a secret"),
            1,
            "token-proxy: unexpected KeyError: run it with --debug to see where, and please report it\n",
        ),
    ],
)
def test_an_error_becomes_a_sentence_and_an_exit_code(error, code, sentence):
    @click.command()
    @shared.command
    def failing():
        raise error

    failed = CliRunner().invoke(failing)
    assert (failed.exit_code, failed.stdout, failed.stderr) == (code, "", sentence)


@pytest.mark.parametrize(
    ("error", "code"), [(LoginRequired("log in"), 3), (StoreError("full"), 1), (ConfigError("file", []), 2)]
)
def test_with_debug_the_exit_code_is_the_same(error, code):
    @click.command()
    @shared.command
    def failing():
        raise error

    failed = CliRunner().invoke(failing, ["--debug"])
    assert (failed.exit_code, str(error) in failed.stderr) == (code, True)


def test_with_debug_the_traceback_of_an_unexpected_error_is_shown():
    @click.command()
    @shared.command
    def failing():
        raise KeyError("a secret")

    assert isinstance(CliRunner().invoke(failing, ["--debug"]).exception, KeyError)


def test_a_closed_pipe_is_no_error(tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m proxy schema | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("{", "")


def test_where_the_output_is_not_in_utf_8_it_is_shown_as_far_as_possible(tmp_path):
    write(tmp_path / "config.toml")
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "status"],
        cwd=tmp_path,
        env={"PYTHONIOENCODING": "latin-1", "CRM_SECRET": "s", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines()[3].split() == ["crm", "default", "absent", "?", "?", "?", "?", "crm"]
