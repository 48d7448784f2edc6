"""token, logout."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from proxy.demo import faults
from tests.patience import within

DONE, FAILED, LOGIN_NEEDED = 0, 1, 3


async def test_token_prints_the_token_alone(bench):
    await bench.log_in()
    done = await bench.call("token", "person")
    assert (done.exit_code, done.stderr) == (DONE, "")
    assert bench.server.active(done.stdout.removesuffix("\n")) == "alice"


async def test_token_asks_for_a_machines_first_token_once(bench):
    first, second = await bench.call("token", "machine"), await bench.call("token", "machine")
    assert first.stdout == second.stdout
    assert bench.server.active(first.stdout.strip()) == "demo-machine"
    assert len(bench.server.token_requests) == 1


async def test_token_refreshes_what_has_expired(bench):
    bench.server.script(faults.expires_in(0.2))
    await bench.log_in()
    await asyncio.sleep(0.2)
    done = await bench.call("token", "person")
    assert bench.server.active(done.stdout.strip()) == "alice"
    assert bench.granted() == ["authorization_code", "refresh_token"]


async def test_token_prints_what_a_refresh_that_is_due_brings(bench):
    """Some servers invalidate the old token when they issue its successor."""
    bench.edit("credentials.person]", "credentials.person]\nrefresh_at = 0.11")
    bench.server.script(faults.expires_in(3))
    await bench.log_in()
    await asyncio.sleep(0.35)
    done = await bench.call("token", "person")
    assert bench.granted() == ["authorization_code", "refresh_token"]
    assert (await bench.call("token", "person")).stdout == done.stdout


async def test_token_says_that_a_person_must_log_in(bench):
    refused = await bench.call("token", "person")
    assert (refused.exit_code, refused.stdout) == (LOGIN_NEEDED, "")
    assert refused.stderr == (
        "token-proxy: person/default: nobody has logged in yet; run `token-proxy login person`\n"
    )


@pytest.mark.parametrize("fault", ["too-many-requests", "invalid-client"])
async def test_token_fails_with_one_sentence_where_the_server_refuses(bench, fault):
    bench.server.script(faults.NAMED[fault])
    failed = await bench.call("token", "machine")
    assert (failed.exit_code, failed.stdout, failed.stderr.count("\n")) == (FAILED, "", 1)
    assert failed.stderr.startswith("token-proxy: ")


async def test_logout_forgets_here_and_revokes_there(bench):
    await bench.log_in()
    token = (await bench.call("token", "person")).stdout.strip()
    done = await bench.call("logout", "person")
    assert (done.exit_code, done.stdout, done.stderr) == (DONE, "logged out of person/default\n", "")
    assert bench.server.active(token) is None
    assert (await bench.call("token", "person")).exit_code == LOGIN_NEEDED
    assert (await bench.call("logout", "person")).exit_code == DONE, "again changes nothing"


async def test_a_logout_that_the_server_is_not_told_says_so(bench):
    await bench.log_in()
    bench.edit(
        'client_id = "demo-app"', 'client_id = "demo-app"\nrevocation_endpoint = "http://127.0.0.1:1/x"'
    )
    done = await bench.call("logout", "person")
    assert (done.exit_code, done.stdout) == (DONE, "logged out of person/default\n")
    assert done.stderr.startswith("token-proxy: the tokens are forgotten here, but not revoked: the")
    assert "(unreachable: connection refused)" in done.stderr


async def test_a_logout_is_honoured_by_a_running_server_within_a_second(bench):
    await bench.log_in()
    async with bench.serving():
        assert await bench.whose() == "alice"
        await bench.call("logout", "person")
        async with within(1):
            while await bench.whose() is not None:
                await asyncio.sleep(0.05)


async def test_logout_sets_a_damaged_record_aside_says_so_and_a_login_follows(bench):
    await bench.log_in()
    with closing(sqlite3.connect(bench.config.server.state_dir / "tokens.db")) as db, db:
        db.execute("UPDATE tokens SET body = substr(body, 1, 50) WHERE credential = 'person'")
    refused = await bench.call("token", "person")
    assert refused.exit_code == FAILED
    assert (
        "run `token-proxy logout person`, which sets the record aside, then run `token-proxy login person`"
        in refused.stderr
    )
    done = await bench.call("logout", "person")
    assert (done.exit_code, done.stdout) == (DONE, "logged out of person/default\n")
    await bench.log_in()
    assert (await bench.call("token", "person")).exit_code == DONE


@pytest.mark.parametrize("command", ["token", "login", "logout"])
async def test_an_unknown_credential_is_named_with_the_known_ones(bench, command):
    failed = await bench.call(command, "persn")
    assert (failed.exit_code, failed.stdout) == (FAILED, "")
    assert failed.stderr.startswith("token-proxy: the configuration has no credential 'persn': ")
    assert failed.stderr.endswith(" are machine, person\n")


@pytest.mark.parametrize("command", ["token", "login", "logout"])
@pytest.mark.parametrize("account", ["", ".hidden", "a/b", "a b", "x" * 129, "\u00e9"])
async def test_an_invalid_account_name_is_refused(bench, command, account):
    failed = await bench.call(command, "person", "--account", account)
    assert (failed.exit_code, failed.stdout, failed.stderr.count("\n")) == (FAILED, "", 1)
    assert "that is not an account name" in failed.stderr


@pytest.mark.parametrize(
    "arguments", [("login", "person"), ("login", "person", "--code", "x"), ("logout", "person")]
)
async def test_with_a_store_in_memory_the_command_is_refused(bench, arguments):
    bench.edit("[log]", '[store]\nurl = "memory:"\n\n[log]')
    failed = await bench.call(*arguments)
    assert failed.exit_code == FAILED
    assert f"use the page {bench.config.public_url}/" in failed.stderr


async def test_a_token_that_is_bound_to_a_key_is_not_handed_out(bench):
    bench.edit("[credentials.machine]", "[credentials.machine]\ndpop = true")
    done = await bench.call("token", "machine")
    assert (done.exit_code, done.stdout) == (FAILED, "")
    assert "bound to a key (dpop)" in done.stderr
    assert bench.server.token_requests == []
