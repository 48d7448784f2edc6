"""[notify]: its two forms, and what is a fault."""

import pytest

from proxy.commands.described import described
from proxy.config.load import load
from proxy.config.lookups import Command
from proxy.errors import ConfigError

from .conftest import NOT_REFERENCE, Complaints, Load

WEBHOOK = "https://hooks.example/services/T0/B0/hunter2"
ONE = 'expected a program and its arguments, as there is no shell: ["/usr/local/bin/page"]'
HTTP = "http would expose secrets to the network: expected https (http on loopback only)"
FAULTS = [
    ("[notify]", ["1:1: command or url is missing - this table requires one of them"]),
    ('[notify]\ncommand = "page crm"', [f"2:11: {ONE}"]),
    ("[notify]\ncommand = []", [f"2:11: {ONE}"]),
    ('[notify]\ncommand = [""]', [f"2:11: {ONE}"]),
    ('[notify]\ncommand = ["page", "a\\u0000b"]', [f"2:11: {ONE}"]),
    ('[notify]\ncommand = ["page", 1]', [f"2:11: {ONE}"]),
    ('[notify]\nurl = "http://hooks.example/x"', [f"2:7: {HTTP}"]),
    ('[notify]\nurl = "ftp://hooks.example/x"', ["2:7: expected a URL: https://host/path"]),
    ("[notify]\nurl = 5", [f"2:7: {NOT_REFERENCE}"]),
    (
        '[notify]\nurl = "https://me:hunter2@hooks.example/"',
        ["2:7: user and password are not allowed in this URL: expected https://host/path"],
    ),
    (
        f'[notify]\ncommand = ["page"]\nurl = "{WEBHOOK}"',
        ["3:7: command is given too: expected one of command and url"],
    ),
    ('[notify]\nurls = "x"\ncommand = ["page"]', ["2:1: unknown key 'urls' - did you mean 'url'?"]),
    ('[notify]\ncolour = 1\ncommand = ["page"]', ["2:1: unknown key 'colour' - known here: command, url"]),
    (f'[notify]\nslack_webhook = "{WEBHOOK}"', ["2:1: unknown key 'slack_webhook' - did you mean 'url'?"]),
    (
        '[notify]\nurl = { env = "UNSET" }',
        ["2:7: the environment variable UNSET is not set - set it before token-proxy starts"],
    ),
    ("notify = 5", ["1:10: expected a table: [ … ] on a line of its own, or { … }"]),
]


@pytest.mark.parametrize(("text", "expected"), FAULTS)
def test_faults(text: str, expected: list[str], complaints: Complaints) -> None:
    assert complaints(text) == expected


def test_without_the_table_nothing_is_notified(load_text: Load) -> None:
    assert load_text("").config.notify is None


def test_a_program_is_started_beside_the_configuration(load_text: Load) -> None:
    loaded = load_text('[notify]\ncommand = ["./page", "--team", "crm"]')
    assert loaded.config.notify is not None
    assert loaded.config.notify.command == Command(("./page", "--team", "crm"), loaded.config.path.parent)
    assert loaded.references == ()  # it is no secret's place
    assert loaded.warnings == []


@pytest.mark.parametrize("url", [WEBHOOK, "http://127.0.0.1:9000/hook?room=1", "http://[::1]:9000/"])
def test_a_url_is_a_secret(url: str, load_text: Load) -> None:
    loaded = load_text('[notify]\nurl = { env = "HOOK" }', {"HOOK": url})
    assert loaded.config.notify is not None
    assert loaded.config.notify.url is not None
    assert loaded.config.notify.url.reveal() == url
    assert url not in repr(loaded.config)
    assert loaded.warnings == []


def test_a_url_in_the_file_itself_is_warned_of_but_for_this_machine(load_text: Load) -> None:
    (warning,) = load_text(f'[notify]\nurl = "{WEBHOOK}"').warnings
    assert (warning.line, warning.column) == (2, 7)
    assert warning.message.startswith("a secret in the configuration file itself")
    assert WEBHOOK not in warning.source
    assert load_text('[notify]\nurl = "http://127.0.0.1:9000/hook"').warnings == []


@pytest.mark.parametrize(
    "text",
    [
        '[notify]\nurl = "https://hooks.example/hunter2#x"',
        '[notify]\nurl = "https://hooks.example/hunter2',
        "[notify]\nurl = https://hooks.example/hunter2",
        '[notify]\ncommand = ["curl", "-HAuthorization: hunter2", 5]',
        '[notify]\ncommand = "curl -H hunter2"',
        '[notify]\ncommand = ["curl", "-Hhunter2"',
    ],
)
def test_a_fault_does_not_show_it(text: str, load_text: Load) -> None:
    with pytest.raises(ConfigError) as report:
        load_text(text)
    assert "hunter2" not in str(report.value)


def test_check_needs_no_secret(load_text: Load) -> None:
    path = load_text("").config.path
    path.write_text('[notify]\nurl = { file = "not-there" }')
    assert load(path, {}, secrets=False).config.notify is not None


def test_what_was_understood_hides_the_url_and_the_arguments(load_text: Load) -> None:
    lines = list(described(load_text('[notify]\ncommand = ["page", "hunter2"]')))
    assert 'command = ["page", "…"]' in lines[lines.index("[notify]") + 1]
    lines = list(described(load_text('[notify]\nurl = { env = "HOOK" }', {"HOOK": WEBHOOK})))
    assert lines[lines.index("[notify]") + 1].split() == ["url", "=", "***", "#", "from", "env", "HOOK"]
    assert "[notify]" not in list(described(load_text("")))
