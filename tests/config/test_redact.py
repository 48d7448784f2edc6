"""How a faulty line is shown."""

import pytest

from proxy.errors import ConfigError

from .conftest import Load

SECRET = "hunter2"
SHOWN = [  # text, the line shown with the fault
    ('[credentials.crm]\nclient_secrt = "hunter2" # x', "client_secrt = *** # x"),
    ("[credentials.crm]\npassword = 'hunter2'", "password = ***"),
    (
        "[credentials]\ncrm = { client_secret = 'hunter2', isuer = 'hunter2' }",
        "crm = { client_secret = ***      , isuer = *** }",
    ),
    ("[credentials.crm]\nclient_secret = ['hunter2']", "client_secret = [***]"),
    ("[credentials.crm]\nclient_secret = { value = 'hunter2' }", "client_secret = { value = *** }"),
    ("[credentials.crm.client_secret]\nvalue = 'hunter2'", "[credentials.crm.client_secret]"),
    (
        "[credentials.crm]\ntoken_params = { client_secret = 'hunter2' }",
        "token_params = { client_secret = *** }",
    ),
    ("[credentials.crm]\nissuer = 'http://me:hunter2@a.example'", "issuer = 'http://***@a.example'"),
    ("[credentials.hunter]\nissuer = 'a'", "issuer = 'a'"),
    ("[credentials.my-secret]\nissuer = 'a'", "issuer = 'a'"),
    ("[credentials.crm]\nclient_secret = { env = 'UNSET' }", "client_secret = { env = 'UNSET' }"),
    ("[credentials.crm]\nclient_secret = { env = 'hunter2!' }", "client_secret = { env = *** }"),
    ("[store]\nkey = 'hunter2'", "key = ***"),
    ("[store]\nurl = 'redi://:hunter2/@x'", "url = 'redi://***@x'"),
    ("[unknown]\nkey = 'x'", "[unknown]"),
    ('\tunknown = "\\t"', " unknown = ***"),
    ("[credentials.crm]\nverify = true\nretries = 3", "verify = true"),  # no secret
    ("[credentials.crm]\ntoken_url = 'https://a.example'", "token_url = 'https://a.example'"),
    ("[credentials.crm]\ntoken = 'hunter2'", "token = ***"),  # it stands for `value`
    ("[credentials.crm]\nsecret = 'hunter2'", "secret = ***"),
]
BROKEN = [  # not TOML
    ("listen = \n", "listen = "),
    ("[server\nlisten = 1", "[server"),
    ("[hunter2\nlisten = 1", "***"),
    ("client_secret: 'hunter2'", "client_secret: ***"),
    ("issuer: https://a.example", "issuer: https://a.example"),
    ("issuer: a, client_secret: 'hunter2'", "issuer: ***"),
    ("hunter2 {", ""),
    ("{\nhunter2", ""),
    ("client_secret = [\n 'hunter2',", "***"),
    ("listen 'hunter2'", "listen ***"),
    ("hunter2", "***"),
    ("client_secret = hunter2", "client_secret = ***"),
    ("client_secret = 'hunter2", "client_secret = ***"),
    ("crm.client_secret = 'hunter2", "***"),
    ("client_secret = '''\nhunter2\nx\x00'''", "***"),
    ("client_secrt = 'hunter2", "***"),
    ("listen = 1 client_secret = 'hunter2'", "listen = ***"),
    ("issuer = 'http://me:hunter2@a.example", "issuer = 'http://***       @a.example"),
]


def sources(load_text: Load, text: str) -> list[str]:
    with pytest.raises(ConfigError) as report:
        load_text(text)
    assert SECRET not in str(report.value)
    return [fault.source for fault in report.value.faults]


@pytest.mark.parametrize(("text", "shown"), SHOWN)
def test_possible_secrets_in_a_line_are_masked(text: str, shown: str, load_text: Load) -> None:
    assert shown in sources(load_text, text)


@pytest.mark.parametrize(("text", "shown"), BROKEN)
def test_a_line_of_invalid_toml_is_shown_without_possible_secrets(
    text: str, shown: str, load_text: Load
) -> None:
    (source,) = sources(load_text, text)
    assert source.rstrip() == shown.rstrip()


def test_control_characters_of_a_line_do_not_reach_the_terminal(load_text: Load) -> None:
    (source,) = sources(load_text, "listen = \x1b[31m'x'\n")
    assert "\x1b" not in source
