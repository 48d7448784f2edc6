"""Authorization servers that share a redirect URI: `check` says so."""

import pytest
from click.testing import CliRunner

from proxy.cli import main

ONE, TWO = 'issuer = "https://one.example"', 'issuer = "https://two.example"'
BY_HAND = 'token_endpoint = "https://three.example/t"\nauthorization_endpoint = "https://three.example/a"'
OWN, SECRET = 'callback = "own"', 'client_secret = { env = "SECRET" }'
MACHINE = f'grant = "client_credentials"\n{SECRET}'

ADVICE = [  # the credentials c0, c1 …; which of them is told about which
    ([ONE], []),
    ([ONE, ONE], []),
    ([ONE, TWO], [("c1", "c0")]),
    ([ONE, BY_HAND], [("c1", "c0")]),
    ([BY_HAND, BY_HAND], []),
    ([BY_HAND, ONE, TWO], [("c1", "c0"), ("c2", "c0")]),
    ([ONE, f"{TWO}\n{OWN}"], []),
    ([f"{ONE}\n{OWN}", TWO], []),
    ([f"{ONE}\n{OWN}", f"{TWO}\n{OWN}"], []),
    ([f"{ONE}\n{OWN}", TWO, BY_HAND], [("c2", "c1")]),
    ([ONE, f"{TWO}\n{MACHINE}"], []),
    ([f'{ONE}\ngrant = "refresh_token"\nrefresh_token = {{ env = "SECRET" }}', TWO], []),
]


def text_of(credentials):
    tables = [f'[credentials.c{n}]\nclient_id = "app"\n{each}\n' for n, each in enumerate(credentials)]
    return "".join(tables)


@pytest.mark.parametrize(("credentials", "expected"), ADVICE)
def test_check_advises_own_callbacks_where_two_servers_share_one(credentials, expected, load_text):
    loaded = load_text(text_of(credentials), {"SECRET": "s"})
    assert loaded.warnings == []
    assert [fault.message.split("'")[1] for fault in loaded.advice] == [other for _, other in expected]
    for fault, (name, _other) in zip(loaded.advice, expected, strict=True):
        assert fault.source == f"[credentials.{name}]"
        assert f'callback = "own" separates them (register public_url + "/callback/{name}"' in fault.message


def test_it_is_no_fault(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(text_of([ONE, TWO]))
    done = CliRunner().invoke(main, ["check", "-c", str(file)])
    assert done.exit_code == 0
    assert "warning: " in done.output
    assert "/callback/c1" in done.output


@pytest.mark.parametrize("value", ['"Own"', '"/callback/x"', "true", '""'])
def test_another_value_is_a_fault(value, complaints):
    (complaint,) = complaints(text_of([f"{ONE}\ncallback = {value}"]))
    assert complaint.startswith('4:12: expected "shared" or "own"')


def test_the_redirect_uri(load_text):
    config = load_text(text_of([ONE, f"{TWO}\n{OWN}"])).config
    assert config.redirect_uri(config.credentials["c0"]) == "http://127.0.0.1:8081/callback"
    assert config.redirect_uri(config.credentials["c1"]) == "http://127.0.0.1:8081/callback/c1"
