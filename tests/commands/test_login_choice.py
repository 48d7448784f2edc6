"""login without a name."""

import pytest

from proxy.commands.login import how_to_paste
from proxy.commands.login_choice import choose

DONE, FAILED, USAGE = 0, 1, 2
ANOTHER = """
[credentials.other]
issuer = "{issuer}"
client_id = "demo-app"
"""
BY_HEADER = 'credential = "person"\naccount = { header = "X-Remote-User" }'
VERIFIER = "v" * 43


def add(bench, text):
    bench.path.write_text(bench.path.read_text() + text)
    bench.edit("[log]", "[log]")  # load it again


async def test_the_only_credential_with_a_login_is_taken(bench):
    failed = await bench.call("login", "--code", "x", "--code-verifier", VERIFIER)
    assert failed.exit_code == FAILED
    assert bench.granted() == ["authorization_code"], "it was tried"


async def test_the_only_account_is_taken_by_the_name_that_its_route_gives_it(bench):
    bench.edit('credential = "person"', 'credential = "person"\naccount = "team"')
    assert await choose(bench.config, None, pytest.fail) == ("person", "team")


async def test_an_account_may_be_named_alone(bench):
    bench.edit('credential = "person"', BY_HEADER)
    assert await choose(bench.config, "ann", pytest.fail) == ("person", "ann")


async def test_of_several_each_is_listed_with_its_state_and_command(bench):
    await bench.log_in()
    add(bench, ANOTHER.format(issuer=bench.server.issuer))
    listed = await bench.call("login")
    assert listed.exit_code == USAGE
    head, *rows = [line.split(maxsplit=3) for line in listed.stdout.splitlines()]
    assert head == ["CREDENTIAL", "ACCOUNT", "STATE", "COMMAND"]
    assert rows == [
        ["other", "default", "absent", "token-proxy login other"],
        ["person", "default", "valid", "token-proxy login person"],
    ]
    assert "name the credential" in listed.stderr
    assert bench.granted() == ["authorization_code"], "of the login before"


async def test_where_requests_name_the_account_a_new_one_can_be_added(bench):
    bench.edit('credential = "person"', BY_HEADER)
    listed = await bench.call("login")
    assert listed.exit_code == USAGE
    assert (
        listed.stdout.splitlines()[1].split(maxsplit=2)[2].endswith("token-proxy login person --account NAME")
    )


async def test_where_no_credential_has_a_login_that_is_said(bench):
    text = bench.path.read_text()
    before, _, after = text.partition("[credentials.person]")
    routes = after[after.index("[credentials.machine]") :].replace(
        'credential = "person"', 'credential = "machine"'
    )
    bench.path.write_text(before + routes)
    failed = await bench.call("login")
    assert (failed.exit_code, failed.stdout) == (FAILED, "")
    assert "no credential of the configuration has a login" in failed.stderr


# -- what the browser will show


@pytest.mark.parametrize(
    ("redirect_uri", "is_received", "said", "ssh"),
    [
        ("http://127.0.0.1:8081/callback", True, "can't be reached (", "ssh -L 8081:127.0.0.1:8081 HOST"),
        ("http://localhost/callback", True, "can't be reached (", "ssh -L 80:127.0.0.1:80 HOST"),
        ("https://localhost/callback", True, "can't be reached (", "ssh -L 443:127.0.0.1:443 HOST"),
        ("http://127.0.0.1:8081/callback", False, "or is another program's", None),
        (
            "https://tokens.example/callback",
            True,
            "will end on https://tokens.example/callback?code=…:",
            None,
        ),
    ],
)
def test_the_person_is_told_what_the_browser_will_show(redirect_uri, is_received, said, ssh):
    first, *rest = how_to_paste(redirect_uri, is_received=is_received)
    assert said in first
    assert f"{redirect_uri}?code=…" in first
    assert first.endswith("paste the URL here.")
    assert [line.rpartition(": ")[2] for line in rest] == ([ssh] if ssh else [])
